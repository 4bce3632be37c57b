//! A secret split into printed shares.
