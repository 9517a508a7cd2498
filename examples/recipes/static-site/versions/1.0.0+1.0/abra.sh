#!/bin/bash
# A config cannot be changed once it is deployed: whoever changes its file raises its version.
export HTTPD_CONF_VERSION=v1
