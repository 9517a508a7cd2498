"""A real SMTP server (aiosmtpd) for the tests: says the port it got, then each message, as JSON lines.

Arguments: `plain`, `starttls` or `tls`; then, but for `plain`, certificate and key. Recipients choose how it
behaves: `nobody@` is refused for good, `later@` for now, `cut@` loses the connection instead of an answer.
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("later@"):
            return "451 4.7.1 greylisted, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        print(
            json.dumps(
                {
                    "from": envelope.mail_from,
                    "to": envelope.rcpt_tos,
                    "data": envelope.content.decode(),
                    "encrypted": session.ssl is not None or mode == "tls",
                    "user": session.auth_data.login.decode() if session.auth_data else None,
                }
            ),
            flush=True,
        )
        if envelope.rcpt_tos[0].startswith("cut@"):
            server.transport.abort()
        return "250 2.0.0 queued as ABC123"


def authenticate(server, session, envelope, mechanism, data):
    good = data.login == b"assay" and data.password == b"correct horse"
    return AuthResult(success=good, handled=good, auth_data=data)


async def main():
    context = None
    if mode != "plain":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[3])

    def session():
        return SMTP(
            Handler(),
            hostname="mail.test",
            tls_context=context if mode == "starttls" else None,
            require_starttls=mode == "starttls",
            auth_required=mode != "plain",
            auth_require_tls=mode == "starttls",
            authenticator=authenticate,
        )

    wrapped = context if mode == "tls" else None
    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0, ssl=wrapped)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


mode = sys.argv[1]
asyncio.run(main())
