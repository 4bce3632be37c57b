//! PostgreSQL (Debian `postgresql`).
