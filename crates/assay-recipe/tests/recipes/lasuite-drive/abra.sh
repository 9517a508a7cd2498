export BACKEND_ENV_VERSION=v1
export NGINX_CONF_VERSION=v1
create_bucket() { mc mb drive; }
