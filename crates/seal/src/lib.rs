//! Sealing footage: layer keys, the clear header, chunked encryption, key wrapping.
