//! Does the app answer? Asked at its web face from the moment on in which every service runs.

use std::time::{Duration, Instant};

use assay_model::text;
use assay_recipe::Stack;
use assay_recipe::settings::Http;
use assay_swarm::Swarm;

use super::stand::Stand;
use super::{Budget, Test, front};
use crate::recipe::evidence::Answered;

/// Between two requests to an app that does not answer yet.
const AGAIN: Duration = Duration::from_millis(200);
/// Longest that one request may take.
const REQUEST: Duration = Duration::from_secs(20);
/// For how long an answer with the right status and the wrong content may yet become the right one.
const WRONG: Duration = Duration::from_secs(5);
/// The most that is kept of a page, in characters.
const KEPT: usize = 400;

/// The service that answers, and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Face {
    pub(super) service: String,
    pub(super) port: u16,
}

impl Test {
    /// Where the app answers by its files and settings; none where nobody says.
    pub(super) fn face(&self, stack: &Stack) -> Option<Face> {
        face_of(&self.spec.settings.http, stack)
    }

    /// Tells the proxy where the app is; once more before every request, since tasks come and go.
    pub(super) async fn find_app(stand: &Stand, stack: &str, face: &Face) -> Result<(), String> {
        let address = address_of(stand.swarm(), stack, face).await;
        stand.front.set_app(address.as_ref().ok().map(|ip| front::address(*ip, face.port)));
        address.map(drop)
    }

    /// Asks until the answer is as expected, or the time is over; the last page as it came.
    pub(super) async fn ask(
        &self,
        stand: &Stand,
        stack: &Stack,
        face: &Face,
        budget: Budget,
    ) -> (Answered, String) {
        let http = &self.spec.settings.http;
        let began = Instant::now();
        let limit = http.timeout.min(budget.left());
        let mut said = Answered {
            url: format!("https://{}{}", stand.front.authority(), http.path),
            ..Answered::default()
        };
        let mut right_status_since: Option<Instant> = None;
        let mut last = String::new();
        loop {
            said.requests += 1;
            let left = limit.saturating_sub(began.elapsed()).clamp(Duration::from_secs(1), REQUEST);
            let page = match Self::find_app(stand, &stack.name, face).await {
                Ok(()) => stand.front.ask(&http.path, left).await,
                Err(why) => Err(why),
            };
            said.after_s = began.elapsed().as_secs_f64();
            let (mut right, mut right_status) = (false, false);
            match page {
                Ok(page) => {
                    let body = String::from_utf8_lossy(&page.body);
                    right_status = http.status.contains(&page.status);
                    said.contained = http.contains.as_ref().map(|wanted| body.contains(wanted.as_str()));
                    let of_type = http.content_type.as_ref().is_none_or(|wanted| {
                        page.content_type.as_deref().is_some_and(|seen| seen.starts_with(wanted.as_str()))
                    });
                    right = right_status && of_type && said.contained != Some(false);
                    said.status = Some(page.status);
                    said.content_type = page.content_type.map(|seen| text::clean_to(&seen, 200));
                    // Lines are no part of what it says.
                    let words: Vec<&str> = body.split_whitespace().take(KEPT).collect();
                    said.body = text::clean_to(&words.join(" "), KEPT);
                    said.problem = None;
                    last = body.into_owned();
                }
                Err(why) => said.problem = Some(why),
            }
            if right_status {
                right_status_since.get_or_insert_with(Instant::now);
            } else {
                right_status_since = None;
            }
            let stays_wrong = right_status_since.is_some_and(|since| since.elapsed() >= WRONG);
            if right || stays_wrong || began.elapsed() >= limit {
                return (said, last);
            }
            // Nothing tells that an app has begun to answer but its answer.
            tokio::time::sleep(AGAIN.min(limit.saturating_sub(began.elapsed()))).await;
        }
    }
}

/// Where an app answers by its files and settings; none where nobody says.
pub(super) fn face_of(http: &Http, stack: &Stack) -> Option<Face> {
    if http.none {
        return None;
    }
    let service = http.service.clone().unwrap_or_else(|| "app".to_owned());
    let found = stack.compose.services.get(&service)?;
    let label = found.deploy.labels.iter().find_map(|(name, value)| {
        let is_port =
            name.starts_with("traefik.http.services.") && name.ends_with(".loadbalancer.server.port");
        if is_port { value.trim().parse().ok() } else { None }
    });
    let published = || found.ports.iter().find(|port| port.protocol == "tcp").map(|port| port.target);
    let port = http.port.or(label).or_else(published)?;
    Some(Face { service, port })
}

pub(super) async fn address_of(
    swarm: &Swarm,
    stack: &str,
    face: &Face,
) -> Result<std::net::Ipv4Addr, String> {
    let container = swarm.container_of(stack, &format!("{stack}_{}", face.service)).await;
    let container = container.map_err(|error| error.to_string())?;
    let address = swarm.address_of(&container).await.map_err(|error| error.to_string())?;
    address.ok_or_else(|| {
        format!("the service {} is in no network that a proxy could reach it through", face.service)
    })
}
