# An ATA disk with sectors that it could not read and has not replaced yet: attribute 197, in place of 12.
/"id": 12,/ { here = 1; sub(/"id": 12/, "\"id\": 197") }
here && /"name":/ { sub(/"name": *"[^"]*"/, "\"name\": \"Current_Pending_Sector\"") }
here && /"raw": *\{/ { raw = 1 }
here && raw && /"value":/ { sub(/"value": *[0-9]+/, "\"value\": 16"); here = raw = 0 }
{ print }
