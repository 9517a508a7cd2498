export NGINX_CONF_VERSION=v2

put_page() {
  cat > /usr/share/nginx/html/index.html
}
