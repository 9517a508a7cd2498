//! A run's journal as an operator's program follows it: the live stream, taken up again after each break.

use std::time::Duration;

use assay_model::{Event, EventBody, Verdict};
use assay_testkit::lines;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::time::Instant;

/// The pause before a server that is gone is asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// What has been read of a run's journal, and how to read on.
pub(crate) struct Journal {
    http: reqwest::Client,
    url: String,
    token: String,
    stream: Option<BoxStream<'static, reqwest::Result<Vec<u8>>>>,
    buffer: Vec<u8>,
    last_id: Option<String>,
    /// All events read so far.
    pub(crate) events: Vec<Event>,
}

impl Journal {
    pub(crate) fn follow(server: &str, token: &str, number: i64) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            http: reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client"),
            url: format!("{server}/api/v1/runs/{number}/live"),
            token: token.to_owned(),
            stream: None,
            buffer: Vec::new(),
            last_id: None,
            events: Vec::new(),
        }
    }

    /// Reads on until `wanted`. A run that comes to its end or is held before that never gets there: then, and
    /// after `seconds`, the test fails with the journal as it stands.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        seconds: u64,
        wanted: impl Fn(&EventBody) -> bool,
    ) -> Event {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let Ok(event) = tokio::time::timeout_at(deadline, self.next()).await else {
                panic!("no {what} within {seconds} s:\n{}", self.text())
            };
            self.events.push(event.clone());
            if wanted(&event.body) {
                return event;
            }
            let over = matches!(event.body, EventBody::Sealed(_) | EventBody::Held { .. });
            assert!(!over, "the run came to {} before {what}:\n{}", event.body.kind(), self.text());
        }
    }

    /// Reads on until an event of this kind.
    pub(crate) async fn kind(&mut self, kind: &str, seconds: u64) -> Event {
        self.until(kind, seconds, |body| body.kind() == kind).await
    }

    /// Reads on until an attempt of this stage begins.
    pub(crate) async fn started(&mut self, wanted: &str, seconds: u64) -> Event {
        let what = format!("start of {wanted}");
        self.until(
            &what,
            seconds,
            |body| matches!(body, EventBody::StageStarted { stage, .. } if *stage == *wanted),
        )
        .await
    }

    /// Reads on to the seal.
    pub(crate) async fn sealed(&mut self, seconds: u64) -> Event {
        self.kind("Sealed", seconds).await
    }

    /// How many events of this kind were read.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.events.iter().filter(|e| e.body.kind() == kind).count()
    }

    /// The codes of the findings about the run itself.
    pub(crate) fn findings(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|e| match &e.body {
                EventBody::FindingRaised { finding } => Some(finding.code.as_str()),
                _ => None,
            })
            .collect()
    }

    /// As lines that a person can read, with what stood in the way of a stage.
    pub(crate) fn text(&self) -> String {
        let mut text = lines(&self.events);
        for event in &self.events {
            if let EventBody::StageJudged { stage, judgement, .. } = &event.body
                && judgement.verdict != Verdict::Pass
            {
                text.push(format!("{stage}: {judgement:#?}"));
            }
        }
        text.join("\n")
    }

    async fn next(&mut self) -> Event {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = self.parse(&String::from_utf8_lossy(&block)) {
                    return event;
                }
            }
            let Some(stream) = &mut self.stream else {
                self.connect().await;
                continue;
            };
            if let Some(Ok(bytes)) = stream.next().await {
                self.buffer.extend_from_slice(&bytes);
            } else {
                // Half an event is none: it comes again whole.
                self.buffer.clear();
                self.stream = None;
            }
        }
    }

    async fn connect(&mut self) {
        let url =
            self.last_id.as_ref().map_or_else(|| self.url.clone(), |id| format!("{}?after={id}", self.url));
        let answer = self
            .http
            .get(url)
            .bearer_auth(&self.token)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        match answer {
            Ok(answer) => {
                self.stream = Some(answer.bytes_stream().map(|chunk| chunk.map(|b| b.to_vec())).boxed());
            }
            Err(e) if e.status().is_some_and(|s| s.is_client_error()) => panic!("{}: {e}", self.url),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }

    fn parse(&mut self, block: &str) -> Option<Event> {
        let (mut kind, mut data) = ("", String::new());
        for line in block.lines() {
            if let Some(id) = line.strip_prefix("id:") {
                self.last_id = Some(id.trim().to_owned());
            } else if let Some(name) = line.strip_prefix("event:") {
                kind = name.trim();
            } else if let Some(text) = line.strip_prefix("data:") {
                data.push_str(text.trim_start());
            }
        }
        (kind == "journal").then(|| serde_json::from_str(&data).unwrap_or_else(|e| panic!("{e}: {data}")))
    }
}
