# A SCSI disk that expects to fail: informational exception 5d, which no simulated disk reports.
/"protocol": *"SCSI"/ { scsi = 1 }
scsi {
    sub(/"available": *false/, "\"available\": true, \"enabled\": true")
    sub(/"smart_support": *\{/, "\"smart_status\": {\"passed\": false, \"scsi\": {\"asc\": 93, \"ascq\": 255, \"ie_string\": \"FAILURE PREDICTION THRESHOLD EXCEEDED [asc=5d, ascq=ff]\"}}, \"smart_support\": {")
}
{ print }
