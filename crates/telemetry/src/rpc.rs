use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use obscura_clock::{Monotonic, SharedClock};
use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};
use tower::{Layer, Service};

use crate::{
    Metrics,
    labels::{self, CallLabels, PathLabel},
};

const GRPC_STATUS: &str = "grpc-status";
/// A reply that was dropped before its end: the caller went away, or a deadline passed.
const CANCELLED: &str = "CANCELLED";
/// Seconds; from a look-up in memory to a long upload.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Counts and times every request by rpc and code: `obscura_rpc_requests_total{path,code}` and
/// `obscura_rpc_duration_seconds{path}`, from the request's arrival to the end of the reply's body,
/// because gRPC says only there how the call went.
#[derive(Clone, Debug)]
pub struct RpcMetricsLayer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: SharedClock,
    folders: Vec<&'static str>,
    requests: Family<CallLabels, Counter>,
    durations: Family<PathLabel, Histogram, fn() -> Histogram>,
}

impl RpcMetricsLayer {
    /// Registers the metrics. `folders` are the plain HTTP paths that get a label of their own,
    /// each with all that lies below; everything outside them and the generated table is `other`.
    #[must_use]
    pub fn new(metrics: &Metrics, clock: SharedClock, folders: Vec<&'static str>) -> Self {
        let requests = Family::default();
        let durations: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        metrics.register(|registry| {
            registry.register("rpc_requests", "Requests that ended, by rpc and code", requests.clone());
            registry.register("rpc_duration_seconds", "Time from request to end of reply", durations.clone());
        });
        Self(Arc::new(Shared { clock, folders, requests, durations }))
    }
}

impl<S> Layer<S> for RpcMetricsLayer {
    type Service = MeasuredService<S>;

    fn layer(&self, inner: S) -> MeasuredService<S> {
        MeasuredService { inner, shared: Arc::clone(&self.0) }
    }
}

/// A service whose requests are counted and timed.
#[derive(Clone, Debug)]
pub struct MeasuredService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, A, B> Service<Request<A>> for MeasuredService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<MeasuredBody<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let path = labels::path(request.uri().path(), &self.shared.folders);
        let mut call = Call {
            path,
            started: self.shared.clock.monotonic(),
            code: CANCELLED,
            shared: Arc::clone(&self.shared),
        };
        let reply = self.inner.call(request);
        Box::pin(async move {
            let response = reply.await?;
            call.see_head(&response);
            Ok(response.map(|inner| MeasuredBody { inner: Box::pin(inner), call }))
        })
    }
}

/// One request under way. Its end, however it comes, is what counts.
#[derive(Debug)]
struct Call {
    path: &'static str,
    started: Monotonic,
    code: &'static str,
    shared: Arc<Shared>,
}

impl Call {
    /// A gRPC reply that has its status in the head has nothing else; one of plain HTTP always has.
    fn see_head<B>(&mut self, response: &Response<B>) {
        let grpc = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if grpc {
            self.see_fields(response.headers());
        } else {
            self.code = labels::http_code(response.status());
        }
    }

    fn see_fields(&mut self, fields: &HeaderMap) {
        if let Some(status) = fields.get(GRPC_STATUS) {
            self.code = labels::grpc_code(status.as_bytes());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let (path, code) = (self.path, self.code);
        let seconds = self.shared.clock.monotonic().since(self.started).as_secs_f64();
        self.shared.requests.get_or_create(&CallLabels { path, code }).inc();
        self.shared.durations.get_or_create(&PathLabel { path }).observe(seconds);
    }
}

/// The body of a reply, which knows when it has ended and how.
#[derive(Debug)]
pub struct MeasuredBody<B> {
    inner: Pin<Box<B>>,
    call: Call,
}

impl<B: Body<Data = Bytes>> Body for MeasuredBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(self.inner.as_mut().poll_frame(cx));
        if let Some(trailers) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.trailers_ref()) {
            self.call.see_fields(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use obscura_clock::SimulatedClock;
    use std::{convert::Infallible, time::Duration};
    use tower::ServiceExt as _;

    const RPC: &str = "/obscura.keys.v1.KeysService/GetIntakeKey";

    fn clock() -> Arc<SimulatedClock> {
        SimulatedClock::at("2026-11-23T10:00:00Z".parse().unwrap())
    }

    fn grpc<B>(body: B) -> Response<B> {
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    }

    /// A gRPC reply with one message and then `status` in the trailers.
    fn reply(status: &'static str) -> Response<impl Body<Data = Bytes, Error = Infallible>> {
        let trailers = HeaderMap::from_iter([(GRPC_STATUS.parse().unwrap(), status.parse().unwrap())]);
        let frames = [Frame::data(Bytes::from_static(b"message")), Frame::trailers(trailers)];
        grpc(StreamBody::new(futures::stream::iter(frames.map(Ok))))
    }

    async fn call<B>(
        layer: &RpcMetricsLayer,
        path: &str,
        reply: impl FnOnce() -> Response<B> + Send + 'static,
    ) -> Response<MeasuredBody<B>>
    where
        B: Send + 'static,
    {
        let mut reply = Some(reply);
        let service = tower::service_fn(move |_: Request<()>| {
            let reply = reply.take().unwrap();
            async move { Ok::<_, Infallible>(reply()) }
        });
        layer.layer(service).oneshot(Request::builder().uri(path).body(()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn the_code_of_an_rpc_comes_from_its_trailers() {
        let metrics = Metrics::new("keys");
        let layer = RpcMetricsLayer::new(&metrics, clock(), Vec::new());
        call(&layer, RPC, || reply("7")).await.into_body().collect().await.unwrap();
        let text = metrics.render();
        let row = format!(
            "obscura_rpc_requests_total{{service=\"keys\",path=\"{RPC}\",code=\"PERMISSION_DENIED\"}} 1"
        );
        assert!(text.contains(&row), "{text}");
    }

    #[tokio::test]
    async fn a_reply_without_a_body_has_its_code_in_the_head() {
        let metrics = Metrics::new("keys");
        let layer = RpcMetricsLayer::new(&metrics, clock(), Vec::new());
        drop(
            call(&layer, RPC, || {
                let mut response = grpc(Full::new(Bytes::new()));
                response.headers_mut().insert(GRPC_STATUS, "5".parse().unwrap());
                response
            })
            .await,
        );
        assert!(metrics.render().contains("code=\"NOT_FOUND\"} 1"));
    }

    #[tokio::test]
    async fn a_reply_that_nobody_reads_to_its_end_counts_as_cancelled() {
        let metrics = Metrics::new("keys");
        let layer = RpcMetricsLayer::new(&metrics, clock(), Vec::new());
        drop(call(&layer, RPC, || reply("0")).await);
        assert!(metrics.render().contains("code=\"CANCELLED\"} 1"));
    }

    #[tokio::test]
    async fn the_duration_reaches_to_the_end_of_the_body() {
        let (metrics, clock) = (Metrics::new("keys"), clock());
        let layer = RpcMetricsLayer::new(&metrics, clock.clone(), Vec::new());
        let response = call(&layer, RPC, || reply("0")).await;
        clock.advance(Duration::from_secs(3));
        response.into_body().collect().await.unwrap();
        let text = metrics.render();
        assert!(
            text.contains(&format!(
                "obscura_rpc_duration_seconds_sum{{service=\"keys\",path=\"{RPC}\"}} 3.0"
            )),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_thousand_strange_paths_make_one_row_and_leave_no_trace() {
        let metrics = Metrics::new("keys");
        let layer = RpcMetricsLayer::new(&metrics, clock(), vec!["/objects"]);
        for stranger in 0..1000 {
            drop(
                call(&layer, &format!("/people/{stranger}"), || Response::new(Full::new(Bytes::new()))).await,
            );
        }
        let text = metrics.render();
        assert!(text.contains("path=\"other\",code=\"2xx\"} 1000"), "{text}");
        assert!(!text.contains("people"));
    }
}
