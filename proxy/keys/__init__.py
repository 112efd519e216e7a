"""The keyring: master keys with ids and states, and every key that is derived from them.

Words and standards:

    master key     32 random bytes with an id and a state (ring.py)
    keyring        master keys, of which one seals and one names (ring.py)
    keyring file   … sealed and authenticated as one under the key-encryption key (file.py)
    KEK            the key-encryption key: 32 bytes of the environment or of a file (kek.py), or a key
                   that never leaves a Vault or OpenBao (transit.py)
    derived key    HKDF-SHA-256 (RFC 5869) of a master key; one purpose each, never used for another
    Mac            HMAC-SHA-256 (RFC 2104, RFC 4231) under a derived key
    Aead           AES-256-GCM-SIV (RFC 8452) under a derived key, nonces drawn here and never by a caller
    Signer         Ed25519 (RFC 8032), its seed a derived key

No key appears in a repr, an error or a pickle. No other module uses cryptography's ciphers. What is
imported here works in memory alone.
"""

from proxy.keys.primitives import (
    KEY_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    Aead,
    Mac,
    RunningMac,
    Signer,
    hkdf,
    is_signature,
    prefixed,
    text_bytes,
)
from proxy.keys.ring import Keyring, MasterKey, State

__all__ = [
    "KEY_BYTES",
    "NONCE_BYTES",
    "TAG_BYTES",
    "Aead",
    "Keyring",
    "Mac",
    "MasterKey",
    "RunningMac",
    "Signer",
    "State",
    "hkdf",
    "is_signature",
    "prefixed",
    "text_bytes",
]
