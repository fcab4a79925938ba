"""Asks the application whether it is alive; ends with 1 where it does not say so within two seconds.

A client of HTTP would take longer to import than all the rest.
"""

import socket

with socket.create_connection(("127.0.0.1", 8000), timeout=2) as connection:
    connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
    status = connection.recv(100).split(maxsplit=2)[1]
raise SystemExit(status != b"200")
