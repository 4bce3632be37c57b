use http::StatusCode;
use obscura_proto::keys::v1::{GetIntakeKeyRequest, ImportLayerKeyRequest};

use super::*;

#[tokio::test]
async fn a_caller_in_the_table_gets_through_and_the_handler_learns_who_it_is() {
    let shop = Installation::new();
    let server = Served::keys(shop.identity("keys")).await;
    let mut client = server.client(&shop.identity("ingest"));
    let answer = client.get_intake_key(GetIntakeKeyRequest {}).await.unwrap().into_inner();
    assert_eq!(answer.zone, "spiffe://shop.example/obscura/ingest");
}

#[tokio::test]
async fn a_valid_certificate_of_a_service_that_is_not_among_the_callers_is_denied() {
    let shop = Installation::new();
    let server = Served::keys(shop.identity("keys")).await;
    let mut client = server.client(&shop.identity("cli"));
    assert!(client.get_intake_key(GetIntakeKeyRequest {}).await.is_ok());
    let denied = client.import_layer_key(ImportLayerKeyRequest::default()).await.unwrap_err();
    assert_eq!(denied.code(), tonic::Code::PermissionDenied);
    assert!(denied.message().contains("cli may not call this"), "{denied}");
    let stranger = server.client(&shop.identity("stranger")).get_intake_key(GetIntakeKeyRequest {}).await;
    assert_eq!(stranger.unwrap_err().code(), tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn an_rpc_that_is_not_in_the_table_never_reaches_the_router() {
    let shop = Installation::new();
    let server = Served::keys(shop.identity("keys")).await;
    let client = HttpClient::new(&shop.identity("ingest"), "keys");
    let request = Request::post(format!("https://{}/obscura.keys.v1.KeysService/Steal", server.address))
        .header("content-type", "application/grpc")
        .body(nothing())
        .unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "7");
}

#[tokio::test]
async fn a_route_is_for_its_callers_and_health_for_every_service() {
    let shop = Installation::new();
    let server = Served::keys(shop.identity("keys")).await;
    let (ingest, cli) = (shop.identity("ingest"), shop.identity("cli"));
    let body = server.get(&ingest, "/objects/a").await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "object");
    assert_eq!(server.get(&cli, "/objects/a").await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(server.get(&cli, "/healthz").await.unwrap().status(), StatusCode::OK);
    for path in ["/", "/other", "/objects-of-others"] {
        assert_eq!(server.get(&ingest, path).await.unwrap().status(), StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn an_rpc_asked_for_as_plain_http_is_refused_as_plain_http() {
    let shop = Installation::new();
    let server = Served::keys(shop.identity("keys")).await;
    let response =
        server.get(&shop.identity("cli"), "/obscura.keys.v1.KeysService/ImportLayerKey").await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_http_client_sends_nothing_to_a_url_that_is_not_https_with_a_port() {
    let client = HttpClient::new(&Installation::new().identity("ingest"), "keys");
    for url in ["http://127.0.0.1:1/x", "https://127.0.0.1/x"] {
        let error = client.send(Request::get(url).body(nothing()).unwrap()).await.unwrap_err();
        assert!(story(&error).contains("https://host:port/path"), "{}", story(&error));
    }
}
