# An NVMe disk that has been written more than it was made for.
{ sub(/"percentage_used": *[0-9]+/, "\"percentage_used\": 131"); print }
