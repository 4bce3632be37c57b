//! Receipts that are handed out again.

use bytes::Bytes;
use obscura_proto::keys::v1::SignedShredReceipt;
use prost::Message as _;

use super::*;
use crate::expiry::receipt::Receipt;

/// A receipt whose signed bytes have about this length.
fn receipt(number: u64, length: usize) -> Receipt {
    let bytes = |letter: u8, length| Bytes::from(vec![letter; length]);
    let signed = SignedShredReceipt { receipt: bytes(b'r', length), signature: bytes(b's', 64) };
    let signed = signed.encode_to_vec().into();
    Receipt { number, is_early: false, keys: Vec::new(), effective: at(0), signed }
}

/// Asks page by page as a caller who counts what it got; returns the lengths of the pages.
async fn pages(store: &Store, limit: u64, bytes: u64) -> Vec<usize> {
    let (mut number, mut pages) = (0, Vec::new());
    loop {
        let page = store.receipts_after(number, limit, bytes).await.unwrap();
        if page.is_empty() {
            return pages;
        }
        number += page.len() as u64;
        pages.push(page.len());
    }
}

#[tokio::test]
async fn kept_receipts_come_in_order_and_in_pages_of_a_bounded_size() {
    let (_directory, stores) = both().await;
    for store in stores {
        assert_eq!(pages(&store, 100, 1_000).await, [0_usize; 0]);
        for number in 1..=5 {
            store.remember(&receipt(number, 100 * usize::try_from(number).unwrap())).await.unwrap();
        }
        let all = store.receipts_after(0, 100, 1_000_000).await.unwrap();
        assert_eq!(
            all.iter().map(|signed| signed.receipt.len()).collect::<Vec<_>>(),
            [100, 200, 300, 400, 500]
        );
        assert_eq!(pages(&store, 2, 1_000_000).await, [2, 2, 1]);
        assert_eq!(pages(&store, 100, 1_000).await, [3, 1, 1], "what fits together");
        assert_eq!(pages(&store, 100, 1).await, [1, 1, 1, 1, 1], "one that is too long comes alone");
        store.prune(at(1)).await.unwrap();
        assert!(store.receipts_after(0, 100, 1_000).await.unwrap().is_empty(), "forgotten after their time");
    }
}

#[tokio::test]
async fn the_newest_receipt_tells_when_it_took_effect() {
    let (_directory, stores) = both().await;
    for store in stores {
        assert_eq!(store.newest_receipt().await.unwrap(), None);
        for number in 1..=3 {
            let effective = at(i64::try_from(number).unwrap());
            store.remember(&Receipt { effective, ..receipt(number, 100) }).await.unwrap();
        }
        assert_eq!(store.newest_receipt().await.unwrap(), Some(at(3)));
    }
}

#[tokio::test]
async fn what_a_clock_that_ran_ahead_has_claimed_does_not_keep_others_from_claiming() {
    let (_directory, stores) = both().await;
    for store in stores {
        assert!(store.claim(Fact::ReconcileBegun, 0, 1_000).await.unwrap(), "by a clock that is ahead");
        assert!(store.claim(Fact::ReconcileBegun, 50, 100).await.unwrap(), "the clock was put right");
        assert!(!store.claim(Fact::ReconcileBegun, 60, 110).await.unwrap(), "it is done for now");
        assert!(store.claim(Fact::ReconcileBegun, 100, 150).await.unwrap(), "it is due again");
    }
}
