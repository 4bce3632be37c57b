//! rsyslog with TLS (Debian `rsyslog`, `rsyslog-gnutls`).
