//! Whole lists of objects, fetched page by page, so that neither the API server nor this process
//! holds a large answer at once.
//!
//! A list is whole or an error: when the server forgets where a page ends, the list begins anew.

use kube::Api;
use kube::api::ListParams;
use kube::core::ObjectList;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result, status_code};

/// Objects of a page.
const PAGE: u32 = 250;
/// How often a list begins anew.
const RESTARTS: u32 = 5;

/// All objects that `params` mean. `what` is said in an error: `the agents' pods`.
pub(crate) async fn all<K>(api: &Api<K>, params: &ListParams, what: &str) -> Result<Vec<K>>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    pages(
        params,
        what,
        |params| async move { api.list(&params).await },
    )
    .await
}

/// All objects of the pages that `page` fetches.
pub(crate) async fn pages<T, F, Fut>(params: &ListParams, what: &str, page: F) -> Result<Vec<T>>
where
    T: Clone,
    F: Fn(ListParams) -> Fut,
    Fut: Future<Output = kube::Result<ObjectList<T>>>,
{
    let first = params.clone().limit(PAGE);
    let (mut all, mut next, mut restarts) = (Vec::new(), first.clone(), 0);
    loop {
        let list = match page(next.clone()).await {
            Ok(list) => list,
            // What the continue token stands for is forgotten after some minutes.
            Err(error)
                if status_code(&error) == Some(410)
                    && next.continue_token.is_some()
                    && restarts < RESTARTS =>
            {
                restarts += 1;
                all.clear();
                next = first.clone();
                continue;
            }
            Err(error) => return Err(Error::kube(format!("list {what}"))(error)),
        };
        all.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => next = first.clone().continue_token(&token),
            None => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use kube::core::{ListMeta, Status, TypeMeta};

    use super::*;

    fn list(items: &[u32], next: Option<&str>) -> ObjectList<u32> {
        ObjectList {
            types: TypeMeta::default(),
            metadata: ListMeta {
                continue_: next.map(str::to_owned),
                ..ListMeta::default()
            },
            items: items.to_vec(),
        }
    }

    #[tokio::test]
    async fn pages_are_put_together_and_a_forgotten_page_begins_the_list_anew() {
        let forgotten = AtomicU32::new(0);
        let page = |params: ListParams| {
            assert_eq!(params.limit, Some(PAGE));
            let first_time = params.continue_token.as_deref() == Some("c")
                && forgotten.fetch_add(1, Ordering::Relaxed) == 0;
            std::future::ready(match params.continue_token.as_deref() {
                None => Ok(list(&[1, 2], Some("b"))),
                Some("b") => Ok(list(&[3], Some("c"))),
                Some("c") if first_time => Err(kube::Error::Api(Box::new(
                    Status::failure("expired", "Expired").with_code(410),
                ))),
                _ => Ok(list(&[4], Some(""))),
            })
        };
        let all = pages(&ListParams::default(), "numbers", page)
            .await
            .unwrap();
        assert_eq!(all, [1, 2, 3, 4]);
    }
}
