# An ATA disk that has run out of patience with 4000 sectors (attribute 5).
/"id": 5,/ { here = 1 }
here && /"raw": *\{/ { raw = 1 }
here && raw && /"value":/ { sub(/"value": *[0-9]+/, "\"value\": 4000"); here = raw = 0 }
{ print }
