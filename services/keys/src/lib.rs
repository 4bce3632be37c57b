//! Custody of layer keys: import, release under a grant, rotation.
