//! SPIFFE identities: embedded CA, mTLS server and client, hot reload, who may call what.
