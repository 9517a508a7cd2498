//! Registries as they may behave: tokens, refusals, other bytes than promised. The upstream is a script; the store behind the cache
//! is the real one.

use std::time::Duration;

use assay_registry::{
    BringError, BringFailure, CacheSettings, Credentials, ImageCache, Reference, Registries,
};
use tempfile::TempDir;
use wiremock::matchers::{header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

const MANIFEST: &str = "/v2/shop/web/manifests/1";
const LIMIT: Duration = Duration::from_secs(30);

struct World {
    server: MockServer,
    _folder: TempDir,
    cache: ImageCache,
}

impl World {
    /// With a login for `reg.example`, which this server is.
    async fn start() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let server = MockServer::start().await;
        let folder = tempfile::tempdir().unwrap();
        let logins = folder.path().join("config.json");
        std::fs::write(&logins, r#"{"auths": {"reg.example": {"username": "me", "password": "hidden"}}}"#)
            .unwrap();
        std::fs::set_permissions(&logins, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut registries = Registries::default();
        for name in ["reg.example", "anonymous.example"] {
            registries.add(&format!("{name}={}", server.uri())).unwrap();
        }
        let credentials = Credentials::read(&logins).unwrap();
        let settings = CacheSettings { folder: folder.path().join("cache"), registries, credentials };
        Self { server, _folder: folder, cache: ImageCache::new(settings).unwrap() }
    }

    /// What becomes of `shop/web:1`; it never works out here.
    async fn fails(&self, registry: &str) -> BringError {
        let session = self.cache.open().await.unwrap();
        let reference: Reference = format!("{registry}/shop/web:1").parse().unwrap();
        let error = session.bring(&reference, LIMIT).await.unwrap_err();
        session.close().await;
        assert!(!format!("{error} {error:?}").contains("hidden"), "{error}");
        error
    }

    async fn answers(&self, template: ResponseTemplate) {
        self.server.reset().await;
        Mock::given(path(MANIFEST)).respond_with(template).mount(&self.server).await;
    }
}

#[tokio::test]
async fn an_answer_is_somebody_s_trouble() {
    let world = World::start().await;
    let errors = serde_json::json!({"errors": [{"code": "X", "message": "in its own words\u{7}"}]});
    let mut told = Vec::new();
    for status in [401, 403, 404, 429, 500, 503, 418] {
        world.answers(ResponseTemplate::new(status).set_body_json(&errors)).await;
        let error = world.fails("anonymous.example").await;
        told.push(format!("{status} {:?}: {}", error.class, error.message));
    }
    insta::assert_snapshot!(told.join("\n"), @"
    401 Denied: anonymous.example does not give it without a login, and the runner has none for it (--registry-auth)
    403 Denied: anonymous.example does not give it without a login, and the runner has none for it (--registry-auth)
    404 NotFound: anonymous.example has no such image
    429 RateLimited: anonymous.example has had enough of us for now
    500 Unreachable: anonymous.example is out of order (500 Internal Server Error)
    503 Unreachable: anonymous.example is out of order (503 Service Unavailable)
    418 Other: anonymous.example answers 418 I'm a teapot (it says: in its own words)
    ");
}

#[tokio::test]
async fn a_token_is_asked_for_this_repository_and_with_the_login() {
    let world = World::start().await;
    let realm = format!("{}/token", world.server.uri());
    let challenge = format!(r#"Bearer realm="{realm}",service="reg",scope="repository:everything:push""#);
    Mock::given(path("/token"))
        .and(query_param("service", "reg"))
        .and(query_param("scope", "repository:shop/web:pull"))
        // me:hidden
        .and(header("authorization", "Basic bWU6aGlkZGVu"))
        .respond_with(ResponseTemplate::new(200).set_body_json(serde_json::json!({"token": "t1"})))
        .expect(1)
        .mount(&world.server)
        .await;
    Mock::given(path(MANIFEST))
        .and(header("authorization", "Bearer t1"))
        .respond_with(ResponseTemplate::new(404))
        .with_priority(1)
        .expect(1)
        .mount(&world.server)
        .await;
    Mock::given(path(MANIFEST))
        .respond_with(ResponseTemplate::new(401).insert_header("www-authenticate", challenge.as_str()))
        .mount(&world.server)
        .await;
    // Known, let in, and there is no such image.
    assert_eq!(world.fails("reg.example").await.class, BringFailure::NotFound);
}

#[tokio::test]
async fn a_login_is_not_sent_to_a_registry_that_it_is_not_for() {
    let world = World::start().await;
    let basic = ResponseTemplate::new(401).insert_header("www-authenticate", r#"Basic realm="x""#);
    world.answers(basic).await;
    let error = world.fails("anonymous.example").await;
    assert_eq!(error.class, BringFailure::Denied);
    for request in world.server.received_requests().await.unwrap() {
        assert!(!request.headers.contains_key("authorization"), "{request:?}");
    }
    // The one that it is for gets it, once.
    assert_eq!(world.fails("reg.example").await.class, BringFailure::Denied);
    let asked = world.server.received_requests().await.unwrap();
    let with_login = asked.iter().filter(|request| request.headers.contains_key("authorization"));
    assert_eq!(with_login.count(), 1);
}

#[tokio::test]
async fn bytes_that_are_not_what_the_digest_promises_are_refused() {
    let world = World::start().await;
    let digest = format!("sha256:{}", "ab".repeat(32));
    Mock::given(method("HEAD"))
        .and(path(MANIFEST))
        .respond_with(ResponseTemplate::new(200).insert_header("docker-content-digest", digest.as_str()))
        .mount(&world.server)
        .await;
    Mock::given(path(format!("/v2/shop/web/manifests/{digest}")))
        .respond_with(ResponseTemplate::new(200).set_body_string(r#"{"schemaVersion":2}"#))
        .mount(&world.server)
        .await;
    let error = world.fails("reg.example").await;
    assert_eq!(error.class, BringFailure::Other);
    assert!(error.message.starts_with(&format!("asked for {digest}, the registry gave sha256:")), "{error}");
}

#[tokio::test]
async fn tags_come_page_by_page_and_only_from_the_registry_that_was_asked() {
    let world = World::start().await;
    let list = "/v2/shop/web/tags/list";
    let page = |tags: &[&str]| {
        ResponseTemplate::new(200).set_body_json(serde_json::json!({"name": "shop/web", "tags": tags}))
    };
    // A link that leads elsewhere is taken for its question alone.
    let link = "<https://elsewhere.invalid/v2/shop/web/tags/list?n=1000&last=1.1>; rel=\"next\"";
    Mock::given(path(list))
        .and(query_param("last", "1.1"))
        .respond_with(page(&["1.2", "2.0"]))
        .with_priority(1)
        .expect(1)
        .mount(&world.server)
        .await;
    Mock::given(path(list))
        .respond_with(page(&["1.0", "1.1"]).insert_header("link", link))
        .mount(&world.server)
        .await;
    let reference: Reference = "anonymous.example/shop/web:1.0".parse().unwrap();
    assert_eq!(world.cache.tags(&reference, LIMIT).await.unwrap(), ["1.0", "1.1", "1.2", "2.0"]);
    world.server.reset().await;
    Mock::given(path(list)).respond_with(ResponseTemplate::new(404)).mount(&world.server).await;
    let error = world.cache.tags(&reference, LIMIT).await.unwrap_err();
    assert_eq!(error.class, BringFailure::NotFound, "{error}");
}
