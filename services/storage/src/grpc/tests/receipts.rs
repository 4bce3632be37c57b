//! What is handed out to whoever checks.

use super::*;

#[tokio::test]
async fn receipts_that_were_followed_are_handed_out_again_as_they_were_signed() {
    let zone = crate::zone_bench::Zone::start().await;
    zone.record(&crate::zone_bench::pack(1, 1, 0)).await;
    for slots in [(0, 7), (8, 15), (16, 1_799)] {
        zone.custody.shred(crate::zone_bench::key(1), &[slots]);
    }
    zone.upkeep.follower().unwrap().catch_up().await.unwrap();
    let signer = crate::expiry::receipt::testing::Signer::from_seed(1).public_key();
    let trust = crate::expiry::receipt::ReceiptTrust { zone: "eea".parse().unwrap(), key: signer };
    let ask = async |after_number| {
        let request = Request::new(ListKeptReceiptsRequest { after_number });
        zone.installation.grpc.list_kept_receipts(request).await.unwrap().into_inner().receipts
    };
    let kept = ask(0).await;
    assert_eq!(kept.len(), 3);
    for (number, signed) in (1..).zip(&kept) {
        assert_eq!(trust.read(signed, number).unwrap().number, number);
    }
    assert_eq!(ask(2).await, kept[2..]);
    assert!(ask(3).await.is_empty() && ask(u64::MAX).await.is_empty());
}

#[tokio::test]
async fn with_what_is_described_the_root_of_a_manifest_is_computed_also_after_objects_are_deleted() {
    use obscura_tlog::{Hash, leaf_hash, tree_hash};
    let zone = crate::zone_bench::Zone::start().await;
    let packs: Vec<_> = (1..4).map(|id| crate::zone_bench::pack(id, id, i64::from(id) * 16)).collect();
    for pack in &packs {
        zone.record(pack).await;
    }
    let notices = zone.upkeep.store.open_notices(crate::store::Subject::Arrivals, 10).await.unwrap();
    let event = crate::manifest::manifest(&notices).unwrap();
    let Some(obscura_proto::audit::v1::event::Body::Manifest(manifest)) = event.body else { panic!("none") };
    let ask = async |pack_ids| {
        let request = Request::new(DescribePacksRequest { pack_ids });
        zone.installation.grpc.describe_packs(request).await.map(|answer| answer.into_inner().packs)
    };
    for receipt in 0..2 {
        let told = ask(manifest.pack_ids.clone()).await.unwrap();
        let leaf = |pack: &obscura_proto::storage::v1::PackDescription| {
            let known = packs.iter().find(|known| known.pack_id.to_string() == pack.pack_id).unwrap();
            let head = pack.head_sha256[..].try_into().map(obscura_ids::Digest::from_bytes).unwrap();
            leaf_hash(sha256(&obscura_pack::Statement::of(known, head).to_bytes()).as_bytes())
        };
        let leaves: Vec<Hash> = told.iter().map(leaf).collect();
        assert_eq!(tree_hash(&leaves).as_bytes()[..], manifest.root[..]);
        assert_eq!(told[1].deleted_by_receipt, receipt);
        assert_eq!(told[1].camera_id, camera(2).to_string());
        assert_eq!(told[1].span, Some(message(packs[1].span())));
        zone.custody.shred(crate::zone_bench::key(2), &[(0, 1_799)]);
        zone.upkeep.follower().unwrap().catch_up().await.unwrap();
    }
    assert!(ask(vec![PackId::generate().to_string()]).await.unwrap().is_empty());
    assert_eq!(ask(vec!["first".into()]).await.unwrap_err().code(), Code::InvalidArgument);
    let many = vec![PackId::generate().to_string(); 1_401];
    assert_eq!(ask(many).await.unwrap_err().code(), Code::InvalidArgument);
}
