//! Grants, receipts and status notes: types, canonical bytes, verification.
