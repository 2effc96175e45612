"""A certificate that nobody vouches for, made anew each time."""

import datetime
import ipaddress
import pathlib
import ssl
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def pem(name_of: str, address: str | None = None) -> bytes:
    """Its key and the certificate, in this name, and for an IP address: a client that trusts it then believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name_of)])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    if address is not None:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        made = made.add_extension(names, critical=False)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = made.sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, plain) + certificate.public_bytes(
        serialization.Encoding.PEM
    )


def trusted(file: pathlib.Path) -> ssl.SSLContext:
    """What a server needs to speak TLS as 127.0.0.1 to those who trust the authority in this file, which is made."""
    file.write_bytes(pem("127.0.0.1", "127.0.0.1"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def self_signed() -> ssl.SSLContext:
    """What a server needs to speak TLS as 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "both.pem")
        file.write_bytes(pem("127.0.0.1"))
        context.load_cert_chain(file)
    return context
