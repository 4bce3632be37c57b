#!/usr/bin/env python3
"""Opens the fixed vectors of crates/seal with implementations that are not Obscura's.

Needs `cryptography` 50 or later from PyPI. Prints one line per vector; exits 1 at the first that
does not open to what it should, or that opens although it was changed.
"""

import hashlib
import hmac
import json
import pathlib
import sys

from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

DEPTH = 11
CHUNK = 16 * 1024
PREFIX = 24 + 32


def main() -> int:
    path = pathlib.Path(__file__).with_name("seal.json")
    vectors = json.loads(path.read_text())
    try:
        check_tree(vectors)
        for segment in vectors["segments"]:
            check_segment(segment)
        for wrapped in vectors["wrapped"]:
            check_wrapped(wrapped)
    except AssertionError as wrong:
        print(f"FAILED: {wrong}", file=sys.stderr)
        return 1
    return 0


def check_tree(vectors: dict) -> None:
    root = bytes.fromhex(vectors["layer_key"])
    for leaf in vectors["leaves"]:
        found = descend(root, leaf["slot"], DEPTH)
        assert found.hex() == leaf["leaf"], f"leaf of slot {leaf['slot']}"
    for cover in vectors["covers"]:
        slots = set(range(cover["first_slot"], cover["last_slot"] + 1))
        for depth, index, secret in cover["nodes"]:
            assert descend(root, index, depth).hex() == secret, f"node {depth}/{index}"
            below = 1 << (DEPTH - depth)
            opened = set(range(index * below, (index + 1) * below))
            assert opened <= slots, f"node {depth}/{index} opens too much or again"
            slots -= opened
        assert not slots, f"slots {slots} stay closed"
    print(f"ok  tree: {len(vectors['leaves'])} leaves, {len(vectors['covers'])} covers")


def descend(secret: bytes, path: int, levels: int) -> bytes:
    """GGM with HKDF-Expand-SHA512 as generator: one block, left half and right half."""
    for level in reversed(range(levels)):
        both = hmac.new(secret, b"obscura ggm tree v1" + b"\x01", hashlib.sha512).digest()
        secret = both[32:] if path >> level & 1 else both[:32]
    return secret


def check_segment(segment: dict) -> None:
    name, leaf = segment["name"], bytes.fromhex(segment["leaf"])
    sealed = bytes.fromhex(segment["sealed"])
    length = int.from_bytes(sealed[:2], "big")
    header, file = sealed[2 : 2 + length], sealed[2 + length :]
    assert header.hex() == segment["header"], f"{name}: header"
    clear = bytes(31 * at % 251 for at in range(segment["clear_length"]))
    torn = segment["torn_after_chunks"]
    opened = open_file(leaf, header, file) if torn is None else open_torn(leaf, header, file, torn)
    assert opened == clear, f"{name}: clear bytes"
    if torn is None:
        for wrong in (header[:-1] + b"!", header + b"!"):
            assert not opens(leaf, wrong, file), f"{name}: opens under another header"
        assert not opens(leaf, header, file[:-1]), f"{name}: opens although it is cut"
    print(f"ok  segment: {name}")


def open_file(leaf: bytes, context: bytes, file: bytes) -> bytes:
    decryptor = Cobblestone256Decryptor(leaf, context)
    return decryptor.update(file) + decryptor.finalize()


def open_torn(leaf: bytes, header: bytes, file: bytes, full_chunks: int) -> bytes:
    """Full chunks without an end, then a file of its own with what did not fill a chunk."""
    end = PREFIX + full_chunks * (CHUNK + 16)
    # A full chunk is never the last one, so that it opens as soon as it is there.
    opened = Cobblestone256Decryptor(leaf, header).update(file[:end])
    assert len(opened) == full_chunks * CHUNK, "full chunks"
    context = header + b"obscura torn tail" + full_chunks.to_bytes(4, "big")
    tail = open_file(leaf, context, file[end:]) if file[end:] else b""
    return opened + tail


def opens(leaf: bytes, context: bytes, file: bytes) -> bool:
    try:
        open_file(leaf, context, file)
    except Exception:  # each wrong input has an exception type of its own
        return False
    return True


def check_wrapped(wrapped: dict) -> None:
    name = wrapped["name"]
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(wrapped["private_key"]))
    public = private.public_key().public_bytes_raw().hex()
    assert public == wrapped["public_key"], f"{name}: public key"
    info, aad = bytes.fromhex(wrapped["info"]), bytes.fromhex(wrapped["aad"])
    encapsulated, ciphertext = (bytes.fromhex(wrapped[part]) for part in ("encapsulated_key", "ciphertext"))
    secret = open_wrapped(private, info, aad, encapsulated, ciphertext)
    assert secret.hex() == wrapped["secret"], f"{name}: secret"
    for wrong_info, wrong_aad in ((info + b"!", aad), (info, aad + b"!"), (info, aad[:-1] + b"!")):
        assert not unwraps(private, wrong_info, wrong_aad, encapsulated, ciphertext), f"{name}: opens elsewhere"
    if not aad:
        # The implementation of the library takes no associated data; where there is none both must agree.
        suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        assert suite.decrypt(encapsulated + ciphertext, private, info) == secret, f"{name}: two implementations"
    print(f"ok  wrapped: {name}")


KEM_SUITE = b"KEM" + (0x0020).to_bytes(2, "big")
HPKE_SUITE = b"HPKE" + b"".join(code.to_bytes(2, "big") for code in (0x0020, 0x0001, 0x0002))


def open_wrapped(private: X25519PrivateKey, info: bytes, aad: bytes, encapsulated: bytes, sealed: bytes) -> bytes:
    """RFC 9180, base mode, one message: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM."""
    shared = private.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    both = encapsulated + private.public_key().public_bytes_raw()
    prk = labeled_extract(KEM_SUITE, b"", b"eae_prk", shared)
    secret = labeled_expand(KEM_SUITE, prk, b"shared_secret", both, 32)
    mode_base = b"\x00"
    context = (
        mode_base
        + labeled_extract(HPKE_SUITE, b"", b"psk_id_hash", b"")
        + labeled_extract(HPKE_SUITE, b"", b"info_hash", info)
    )
    prk = labeled_extract(HPKE_SUITE, secret, b"secret", b"")
    key = labeled_expand(HPKE_SUITE, prk, b"key", context, 32)
    nonce = labeled_expand(HPKE_SUITE, prk, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, sealed, aad)


def labeled_extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
    """RFC 9180, section 4; HKDF-Extract is HMAC under the salt (RFC 5869)."""
    return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + label + key, hashlib.sha256).digest()


def labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """RFC 9180, section 4; at most one block of HKDF-Expand is needed here."""
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.new(prk, labeled + b"\x01", hashlib.sha256).digest()[:length]


def unwraps(private: X25519PrivateKey, info: bytes, aad: bytes, encapsulated: bytes, sealed: bytes) -> bool:
    try:
        open_wrapped(private, info, aad, encapsulated, sealed)
    except InvalidTag:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
