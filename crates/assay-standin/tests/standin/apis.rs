//! The two forges' shapes, the device flow and plain registration, as an HTTP client sees them.

use assay_standin::{Deleted, DeviceFlow, LoginState, PullState, RouteClass, Who};
use serde_json::{Value, json};

use crate::bench::{Http, Machine, PATIENCE, TOKEN, config, heard, stand_in, start, text_of};

const BRANCH: &str = "register-node-1";

fn wanted(head: &str) -> String {
    json!({"title": "Register node-1", "body": "please", "head": head, "base": "main"}).to_string()
}

#[tokio::test]
async fn githubs_shape_says_who_one_is_and_takes_a_pull_request() {
    let standin = stand_in().await;
    let http = Http::of(&standin);
    for prefix in ["", "/api/v3"] {
        let user = http.get(&format!("{prefix}/user")).await;
        assert_eq!((user.status, &user.json()["login"]), (200, &json!("operator")));
        assert_eq!(user.headers["x-oauth-scopes"], "repo, read:org, user:email");
    }
    assert_eq!(http.get("/user/emails").await.json()[0]["email"], "operator@forge.invalid");
    let repository = http.get("/repos/fleet/cluster").await.json();
    assert_eq!(repository["default_branch"], "main");
    let clone = format!("{}{}", standin.url().expect("an address"), standin.git_path());
    assert_eq!(repository["clone_url"], json!(clone), "it leads back here");

    let pulls = "POST /repos/fleet/cluster/pulls";
    let missing = http.send(pulls, wanted(BRANCH)).await;
    assert_eq!((missing.status, &missing.json()["errors"][0]["field"]), (422, &json!("head")));
    let machine = Machine::cloned(&standin).await;
    machine.git(&["push", "origin", "HEAD:refs/heads/same"]).await;
    let same = http.send(pulls, wanted("same")).await;
    assert_eq!(same.status, 422);
    assert_eq!(same.json()["errors"][0]["message"], "No commits between main and same");

    assert!(machine.push_new(BRANCH, "node.yaml", "x").await.ok);
    let opened = http.send(pulls, wanted(&format!("fleet:{BRANCH}"))).await;
    assert_eq!(opened.status, 201, "{}", opened.text);
    assert_eq!(opened.json()["html_url"], "https://forge.invalid/fleet/cluster/pull/1");
    assert_eq!(opened.json()["head"]["sha"], json!(machine.head().await));
    let again = http.send(pulls, wanted(BRANCH)).await;
    assert_eq!(again.status, 422);
    assert_eq!(
        again.json()["errors"][0]["message"],
        format!("A pull request already exists for fleet:{BRANCH}.")
    );
    for (query, count) in
        [("", 1), ("?state=closed", 0), ("?state=all&head=fleet:other", 0), ("?base=main", 1)]
    {
        let listed = http.get(&format!("/repos/fleet/cluster/pulls{query}")).await.json();
        assert_eq!(listed.as_array().map(Vec::len), Some(count), "{query}");
    }
    assert_eq!(http.get("/repos/fleet/cluster/pulls/1").await.json()["title"], "Register node-1");
    assert_eq!(http.get("/repos/fleet/cluster/pulls/2").await.status, 404);
    for wrong in ["{", "{}", r#"{"title": 7, "head": "x", "base": "main"}"#] {
        let status = http.send(pulls, wrong).await.status;
        assert!(status == 400 || status == 422, "{wrong}: {status}");
    }

    let branch = format!("DELETE /repos/fleet/cluster/git/refs/heads/{BRANCH}");
    assert_eq!(http.send(&branch, "").await.status, 204);
    assert_eq!(http.send(&branch, "").await.status, 422);
    assert_eq!(http.send("DELETE /repos/fleet/cluster/git/refs/heads/main", "").await.status, 422);
    let ledger = standin.ledger();
    assert!(matches!(ledger.pulls[0].state, PullState::Closed { .. }));
    assert!(matches!(&ledger.deletions[0].what, Deleted::Branch { branch, .. } if branch == BRANCH));
}

#[tokio::test]
async fn giteas_shape_differs_where_gitea_does() {
    let standin = stand_in().await;
    let http = Http::of(&standin).token(None);
    let with_token = |line: &str| http.request(line).header("authorization", format!("token {TOKEN}"));
    let send = async |line: &str, body: String| {
        heard(with_token(line).body(body).send().await.expect("sent")).await.expect("an answer")
    };
    assert_eq!(http.get("/api/v1/version").await.json()["version"], "1.22.0");
    let nobody = http.get("/api/v1/user").await;
    assert_eq!((nobody.status, &nobody.json()["message"]), (401, &json!("token is required")));
    let user = send("GET /api/v1/user", String::new()).await.json();
    assert_eq!((&user["username"], &user["full_name"]), (&json!("operator"), &json!("Operator")));

    let machine = Machine::cloned(&standin).await;
    assert!(machine.push_new("register/node-1", "node.yaml", "x").await.ok);
    let pulls = "POST /api/v1/repos/fleet/cluster/pulls";
    assert_eq!(send(pulls, wanted("no-such-branch")).await.status, 404);
    let opened = send(pulls, wanted("register/node-1")).await;
    assert_eq!((opened.status, &opened.json()["number"]), (201, &json!(1)));
    assert_eq!(opened.json()["html_url"], "https://forge.invalid/fleet/cluster/pulls/1");
    assert_eq!(send(pulls, wanted("register/node-1")).await.status, 409);
    assert_eq!(send(pulls, wanted("main")).await.status, 422);

    let branches = "DELETE /api/v1/repos/fleet/cluster/branches";
    assert_eq!(send(&format!("{branches}/register%2Fnode-1"), String::new()).await.status, 204);
    assert_eq!(send(&format!("{branches}/register/node-1"), String::new()).await.status, 404);
    assert_eq!(send(&format!("{branches}/main"), String::new()).await.status, 403);
}

#[tokio::test]
async fn what_is_not_known_is_404_in_the_forges_words_and_recorded() {
    let standin = stand_in().await;
    let http = Http::of(&standin);
    for (line, key) in [
        ("POST /graphql", "message"),
        ("GET /repos/fleet/other", "message"),
        ("GET /api/v1/orgs", "message"),
        ("PATCH /v1/nodes/x", "error"),
    ] {
        let answer = http.send(line, "").await;
        assert_eq!((answer.status, &answer.json()[key]), (404, &json!("Not Found")), "{line}");
    }
    assert_eq!(http.get("/fleet/cluster.git/HEAD").await.status, 403, "the old protocol");
    let secret = http.get(&format!("/user/keys?access_token={TOKEN}&page=1")).await;
    assert_eq!(secret.status, 404);
    let ledger = standin.ledger();
    let unknown: Vec<&str> = ledger
        .requests
        .iter()
        .filter(|request| request.route == RouteClass::Unknown)
        .map(|request| request.path.as_str())
        .collect();
    assert_eq!(
        unknown,
        [
            "/graphql",
            "/repos/fleet/other",
            "/api/v1/orgs",
            "/v1/nodes/x",
            "/user/keys?access_token=REDACTED-installer&page=1"
        ]
    );
    assert!(!text_of(&ledger).contains(TOKEN));
}

#[tokio::test]
async fn a_device_is_let_in_once_somebody_approves() {
    let standin = stand_in().await;
    let http = Http::of(&standin).token(None);
    let post = async |path: &str, form: &[(&str, &str)]| -> Value {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = http.request(&format!("POST {path}")).header("accept", "application/json");
        heard(request.body(body).send().await.expect("sent")).await.expect("an answer").json()
    };
    let asked = post("/login/device/code", &[("client_id", "cli"), ("scope", "repo")]).await;
    assert_eq!((&asked["interval"], &asked["expires_in"]), (&json!(5), &json!(900)));
    let code = asked["device_code"].as_str().expect("a code").to_owned();
    let form = [
        ("client_id", "cli"),
        ("device_code", code.as_str()),
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
    ];
    let poll = async || post("/login/oauth/access_token", &form).await;
    assert_eq!(poll().await["error"], "authorization_pending");
    let slow = poll().await;
    assert_eq!((&slow["error"], &slow["interval"]), (&json!("slow_down"), &json!(10)));
    assert_eq!(standin.approve(), 1);
    let token = poll().await["access_token"].as_str().expect("a token").to_owned();
    assert_eq!(poll().await["error"], "incorrect_device_code", "a code is good for one token");

    let user = Http::of(&standin).token(Some(&token)).get("/user").await;
    assert_eq!(user.status, 200);
    let address = Machine::address(&standin, &token);
    Machine::new().git(&["clone", "--quiet", &address]).await;
    let ledger = standin.ledger();
    assert!(ledger.requests.iter().any(|it| it.who == Who::Token("device-1".into())));
    let states: Vec<&LoginState> = ledger.logins.iter().map(|login| &login.state).collect();
    let token_state = LoginState::Token("device-1".into());
    assert_eq!(states, [&LoginState::Begun, &LoginState::Pending, &LoginState::SlowDown, &token_state]);
    assert!(!text_of(&ledger).contains(&token) && !text_of(&ledger).contains(&code));
}

#[tokio::test]
async fn a_device_may_be_approved_by_polling_alone_and_answers_are_forms_unless_json_is_asked_for() {
    let mut quick = config();
    quick.device = DeviceFlow { approve_after_polls: Some(1), interval_s: 0, expires_s: 900 };
    let standin = start(quick).await;
    let http = Http::of(&standin).token(None);
    let asked = http.send("POST /login/device/code", "client_id=cli").await;
    assert_eq!(asked.headers["content-type"], "application/x-www-form-urlencoded; charset=utf-8");
    let read = |text: &str, name: &str| {
        let found = url::form_urlencoded::parse(text.as_bytes()).find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    };
    let code = read(&asked.text, "device_code").expect("a code");
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let poll = async || {
        let body = format!("client_id=cli&device_code={code}&grant_type={grant}");
        http.send("POST /login/oauth/access_token", body).await.text
    };
    assert_eq!(read(&poll().await, "error").as_deref(), Some("authorization_pending"));
    assert!(read(&poll().await, "access_token").is_some_and(|token| token.starts_with("gho_")));
    for (line, body, error) in [
        ("POST /login/device/code", "", "invalid_request"),
        ("POST /login/oauth/access_token", "grant_type=password", "unsupported_grant_type"),
    ] {
        assert_eq!(read(&http.send(line, body).await.text, "error").as_deref(), Some(error));
    }
}

#[tokio::test]
async fn a_node_registers_joins_and_is_taken_out_over_plain_http() {
    let standin = stand_in().await;
    let http = Http::of(&standin);
    let yaml = "kind: ClusterNode\nmetadata:\n  name: node-1\nspec: {hardware: {cores: 8}}\n";
    assert_eq!(http.send("POST /v1/nodes", yaml).await.status, 201);
    let again = http.send("POST /v1/nodes", yaml).await;
    assert_eq!(again.status, 409);
    assert_eq!(http.send("PUT /v1/nodes/node-1", r#"{"hostname": "node-1"}"#).await.status, 200);
    assert_eq!(http.send("PUT /v1/nodes/node-2", "spec: {}").await.status, 201, "the path names it");
    for (line, body, status) in [
        ("PUT /v1/nodes/node-1", "name: node-2", 422),
        ("POST /v1/nodes", "name: Not_A_Host", 422),
        ("POST /v1/nodes", "kind: ClusterNode", 422),
        ("POST /v1/nodes", "- just\n- a list", 400),
        ("POST /v1/nodes", "a: [", 400),
        ("POST /v1/nodes/node-1/joined", "not json", 400),
        ("DELETE /v1/nodes/node-9", "", 404),
    ] {
        let answer = http.send(line, body).await;
        assert_eq!(answer.status, status, "{line} {body}: {}", answer.text);
        assert!(answer.json()["error"].is_string());
    }
    let joined = http.send("POST /v1/nodes/node-1/joined", r#"{"cluster_id": "c-7"}"#).await;
    assert_eq!((joined.status, &joined.json()["registered"]), (200, &json!(true)));
    let stranger = http.send("POST /v1/nodes/node-8/joined", "").await;
    assert_eq!((stranger.status, &stranger.json()["registered"]), (200, &json!(false)));
    let nodes = http.get("/v1/nodes").await.json();
    assert_eq!(nodes["nodes"][0]["cluster_id"], "c-7");
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(2));
    assert_eq!(http.send("DELETE /v1/nodes/node-1", "").await.status, 204);

    let ledger = standin.ledger();
    assert_eq!(ledger.nodes.keys().collect::<Vec<_>>(), ["node-2"]);
    assert_eq!(ledger.registrations.len(), 3);
    assert_eq!(ledger.registrations[0].document["spec"]["hardware"]["cores"], 8);
    assert_eq!((ledger.registrations[0].text.as_str(), ledger.registrations[1].replaced), (yaml, true));
    assert_eq!(ledger.joins[0].cluster_id.as_deref(), Some("c-7"));
    assert_eq!(ledger.deletions[0].what, Deleted::Node { name: "node-1".into() });
    let nobody = Http::of(&standin).token(None).send("POST /v1/nodes", yaml).await;
    assert_eq!(
        (nobody.status, &nobody.headers["www-authenticate"]),
        (401, &"Bearer realm=\"stand-in\"".parse().expect("a value"))
    );
}

#[tokio::test]
async fn a_token_in_a_registration_is_noticed_and_not_kept() {
    let standin = stand_in().await;
    let sent = format!("name: node-1\njoin-token: {TOKEN}\n");
    assert_eq!(Http::of(&standin).send("POST /v1/nodes", sent).await.status, 201);
    let ledger = standin.ledger();
    assert_eq!(ledger.registrations[0].leaks, ["installer"]);
    assert_eq!(ledger.registrations[0].document["join-token"], "REDACTED-installer");
    assert!(!text_of(&ledger).contains(TOKEN));
}

#[tokio::test]
async fn whoever_waits_hears_at_once_and_in_order() {
    let standin = stand_in().await;
    let mut events = standin.events();
    let http = Http::of(&standin);
    let waiting = standin.wait_for(PATIENCE, |ledger| ledger.joins.first().cloned());
    let acting = async {
        http.send("POST /v1/nodes", "name: node-1").await;
        http.send("POST /v1/nodes/node-1/joined", "").await
    };
    let (join, _) = tokio::join!(waiting, acting);
    assert_eq!(join.expect("it joined").name, "node-1");
    let mut heard = Vec::new();
    for _ in 0..4 {
        let event = events.recv().await.expect("an event");
        heard.push(serde_json::to_value(event).expect("it serialises")["event"].clone());
    }
    assert_eq!(heard, ["registered", "request", "joined", "request"]);
    let error = standin
        .wait_for(std::time::Duration::ZERO, |ledger| ledger.pulls.first().cloned())
        .await
        .expect_err("nobody opened one");
    assert!(error.to_string().contains("has 2 requests and 0 pushes"), "{error}");
    let ledger = standin.ledger();
    let text = serde_json::to_string(&ledger).expect("it serialises");
    assert_eq!(serde_json::from_str::<assay_standin::Ledger>(&text).expect("it reads"), ledger);
}
