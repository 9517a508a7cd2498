#!/bin/bash
# Shows all books: abra app cmd <domain> app books
books() {
    wget -q -O - http://127.0.0.1:8000/api/books
}
