# An NVMe disk that could not give back what it was given 37 times.
{ sub(/"media_errors": *[0-9]+/, "\"media_errors\": 37"); print }
