//! `FindSegments`.

use obscura_proto::{
    audit::v1::Search,
    storage::v1::{FindSegmentsRequest, FindSegmentsResponse},
};

use super::{Grpc, layer, recordings::asked, span};
use crate::{
    Error,
    page::{PAGE_SEGMENTS, Page, Position, Query, Told},
    store::Slice,
};

/// Packs that are read together: about a page of segments in packs of a minute.
const PACKS: u16 = 64;

/// What the audit log hears of the question; `results` is still open.
pub(super) fn search(request: &FindSegmentsRequest) -> Search {
    asked("segments", &request.camera_id, request.span)
}

impl Grpc {
    pub(super) async fn segments(&self, request: FindSegmentsRequest) -> Result<FindSegmentsResponse, Error> {
        let span = request.span.ok_or_else(|| Error::invalid("span", "there is none")).and_then(span)?;
        let with_shredded = request.with_shredded;
        let query =
            Query { camera: request.camera_id.parse()?, layer: layer(request.layer)?, span, with_shredded };
        let after = Position::from_token(&request.page_token, &query)?;
        let (segments, next) = self.page(query, after).await?;
        let next_page_token = next.map_or_else(String::new, |position| position.to_token(&query));
        Ok(FindSegmentsResponse { segments, next_page_token })
    }

    async fn page(&self, query: Query, after: Option<Position>) -> Result<Told, Error> {
        let mut page = Page::new(query, after, PAGE_SEGMENTS);
        let mut slice = Slice {
            camera: query.camera,
            layer: query.layer,
            from: page.from(),
            to: query.span.end(),
            after: None,
            limit: PACKS,
        };
        loop {
            let packs = self.store.packs(&slice).await?;
            let marks = self.store.marks(&packs.iter().map(|pack| pack.pack).collect::<Vec<_>>()).await?;
            for pack in &packs {
                page.add(pack, marks.get(&pack.pack))?;
                if page.is_full() {
                    return Ok(page.finish(false));
                }
            }
            match packs.last() {
                Some(last) if packs.len() >= usize::from(PACKS) => {
                    slice.after = Some((last.span.start(), last.pack));
                }
                _ => return Ok(page.finish(true)),
            }
        }
    }
}
