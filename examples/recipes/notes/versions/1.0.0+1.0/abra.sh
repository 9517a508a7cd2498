#!/bin/bash
# A config cannot be changed once it is deployed: whoever changes its file raises its version.
export NOTES_SH_VERSION=v1
