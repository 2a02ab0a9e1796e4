"""Content Credentials (C2PA): a signed note inside of a picture file that says which software changed it.

    sign(Path("bare.png"), source=Path("me.jpg"), agent="afterlens beard")
    credentials_of(Path("bare.png"))        # Credentials(agents=("afterlens beard",), intact=True)

The key and its certificate are made anew by each process. So the note shows that the file was not changed after it was
written and what wrote it, not who did: readers call the signer unknown. Nothing is fetched from a network.

Source: C2PA Technical Specification 2.x; the library is c2pa-python.
"""

from __future__ import annotations

import datetime
import json
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from afterlens.training.media.errors import UserError

EDITED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's name for a photo that a trained network has changed in part."""

_UNKNOWN_SIGNER = "signingCredential.untrusted"
_YEARS = 10  # that a note stays valid: without a time stamp of somebody else's, readers ask for a valid certificate


@dataclass(frozen=True)
class Credentials:
    """What a file says of itself.

    Attributes:
        agents: the software that its note, or the note of the photo it was made from, names.
        intact: whether the file is as it was signed.
    """

    agents: tuple[str, ...]
    intact: bool


def can_be_signed(path: Path) -> bool:
    """Whether files of this name can hold a note: PNG, MP4 and MOV can, Matroska cannot."""
    import c2pa

    return mimetypes.guess_type(path.name)[0] in c2pa.Builder.get_supported_mime_types()


def sign(path: Path, source: Path, agent: str, kind: str = "image/png") -> None:
    """Put a note into a new file that ``agent`` has edited ``source``, whose own credentials go in with it.

    Args:
        path: the file, a PNG if ``kind``, its media type, says nothing else. Its name does not matter.
        source: the photo or clip that it was made from.
        agent: the software.

    Raises UserError where the file cannot be signed.
    """
    import c2pa

    made_from = _mime_type(source)
    edited = {"action": "c2pa.edited", "digitalSourceType": EDITED, "softwareAgent": {"name": agent}}
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["photo"]}}
    photo = {"title": source.name, "relationship": "parentOf", "instance_id": "photo"}
    # Of a format that holds no credentials nothing is said but that the picture was made from something.
    is_known = made_from in c2pa.Builder.get_supported_mime_types()
    actions = [opened, edited] if is_known else [{**edited, "action": "c2pa.created"}]
    manifest = {
        "claim_generator_info": [{"name": "afterlens"}],
        "title": source.stem,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
    }
    signed = path.with_name(f"{path.name}.signed")
    try:
        builder = c2pa.Builder(json.dumps(manifest), _offline())
        if is_known:
            with source.open("rb") as stream:
                builder.add_ingredient(json.dumps(photo), made_from, stream)
        with path.open("rb") as plain, signed.open("w+b") as target:
            builder.sign(_signer(), kind, plain, target)
        signed.replace(path)
    except c2pa.C2paError as error:
        raise UserError(f"{path}: Content Credentials cannot be written ({error})") from error
    finally:
        signed.unlink(missing_ok=True)


def credentials_of(path: Path) -> Credentials | None:
    """What a photo's Content Credentials say; None where it has none, or none that can be read."""
    import c2pa

    try:
        with path.open("rb") as stream, c2pa.Reader(_mime_type(path), stream, context=_offline()) as reader:
            store = json.loads(reader.json())
    except (c2pa.C2paError, OSError, ValueError):
        return None
    manifests = store.get("manifests", {}).values()
    assertions = [assertion for manifest in manifests for assertion in manifest.get("assertions", [])]
    actions = [
        action
        for assertion in assertions
        if assertion.get("label", "").startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    agents = dict.fromkeys(str((action.get("softwareAgent") or {}).get("name", "")) for action in actions)
    faults = [status for status in store.get("validation_status", []) if status["code"] != _UNKNOWN_SIGNER]
    return Credentials(tuple(agent for agent in agents if agent), not faults)


def _mime_type(path: Path) -> str:
    """Of pictures by their first bytes, as they are read; of clips by name; "" for what is neither."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.get_format_mimetype() or ""
    except (OSError, ValueError, SyntaxError):
        return mimetypes.guess_type(path.name)[0] or ""


@cache
def _offline() -> Any:
    import c2pa

    verify = {"remote_manifest_fetch": False, "ocsp_fetch": False}
    settings = {"verify": verify, "builder": {"thumbnail": {"enabled": False}}}
    return c2pa.Context(c2pa.Settings.from_dict(settings))


@cache
def _signer() -> Any:
    """A signer with a key and a certificate of this process alone."""
    import c2pa
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    certificates = [
        _certificate("afterlens", own.public_key(), authority, is_authority=False),
        _certificate("afterlens, this process", authority.public_key(), authority, is_authority=True),
    ]
    chain = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)
    key = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain, key, None))


def _certificate(name: str, public: Any, authority: Any, *, is_authority: bool) -> Any:
    """An X.509 certificate of the profile that C2PA asks for (C2PA 2.x, section 14.5)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(common: str) -> x509.Name:
        words = {NameOID.COMMON_NAME: common, NameOID.ORGANIZATION_NAME: "afterlens"}
        return x509.Name([x509.NameAttribute(kind, text) for kind, text in words.items()])

    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
    issuer = authority.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named("afterlens, this process"))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        .add_extension(usage, critical=True)
    )
    if not is_authority:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(authority, hashes.SHA256())
