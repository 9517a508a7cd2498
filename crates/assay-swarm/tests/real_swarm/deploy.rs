//! A stack with everything: it converges, is reached, and goes without leaving anything.

use std::{collections::BTreeMap, time::Duration};

use assay_recipe::compose::model::{
    Attachment, Compose, Mount, MountSource, Network, Object, ObjectUse, Port, Service, Volume,
};
use assay_swarm::{Ensured, Rules, SwarmError, Teardown, ThingKind};

use crate::world::{World, map, service, word};

#[tokio::test]
async fn a_stack_converges_is_reached_by_name_and_port_and_leaves_nothing() {
    let world = World::start().await;
    let swarm = world.swarm();
    let before = swarm.census().await.unwrap();
    let files = BTreeMap::from([("page.conf".to_owned(), b"a page\n".to_vec())]);
    let plan = world.plan_with("shop", &shop(), &files);
    assert_eq!(plan.external_networks(), ["proxy"]);
    assert_eq!(plan.external_secrets(), ["shop_password_v1"]);

    // What somebody else makes has to be there.
    let error = swarm.deploy(&plan).await.unwrap_err();
    assert!(
        matches!(&error, SwarmError::Missing { kind: "network", name, .. } if name == "proxy"),
        "{error}"
    );
    assert_eq!(swarm.ensure_network("proxy", &BTreeMap::new()).await.unwrap(), Ensured::Created);
    assert_eq!(swarm.ensure_network("proxy", &BTreeMap::new()).await.unwrap(), Ensured::Present);
    let put = swarm.put_secret("shop_password_v1", b"swordfish", &BTreeMap::new()).await;
    assert_eq!(put.unwrap(), Ensured::Created);

    let deployed = swarm.deploy(&plan).await.unwrap();
    assert!(deployed.services.iter().all(|service| service.created), "{deployed:#?}");
    let convergence = world.converge(&deployed).await;
    assert_eq!(word(&convergence.outcome), "converged", "{convergence:#?}");

    // The front asks the back by name; we ask the front by its port.
    let page = world
        .daemon
        .command_inside("bash")
        .args(["-c", &format!("exec 3<>/dev/tcp/{}/8080; cat <&3", world.daemon.address())])
        .timeout(Duration::from_secs(10))
        .run_ok()
        .await
        .unwrap();
    assert_eq!(page.stdout_text().trim_end(), "a page\nswordfish\nhello from the other one");

    let counts = swarm.census().await.unwrap().of_stack("shop").counts();
    assert_eq!(counts[&ThingKind::Service], 2);
    assert_eq!(counts[&ThingKind::Secret], 1);
    let how = |volumes| Teardown {
        kill: true,
        volumes,
        external: vec!["proxy".to_owned()],
        limit: Duration::from_secs(30),
    };
    let torn = swarm.teardown("shop", &how(false)).await.unwrap();
    eprintln!("containers gone after {:.1?}, all after {:.1?}", torn.containers_gone, torn.took);
    assert!(torn.leaks.is_empty(), "{:?}", torn.leaks);
    // What Docker's own command leaves as well: the volume, and the network that others use.
    let left = swarm.census().await.unwrap().since(&before);
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["network proxy", "volume shop_data"]);
    let torn = swarm.teardown("shop", &how(true)).await.unwrap();
    assert!(torn.leaks.is_empty(), "{:?}", torn.leaks);
    assert_eq!(torn.removed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["volume shop_data"]);
    world.daemon.stop().await.unwrap();
}

pub(crate) async fn what_somebody_holds_on_to_is_a_leak(world: &World) {
    let swarm = world.swarm();
    let compose = Compose {
        services: map([("app", Service { mounts: vec![data("/data")], ..service("sleep 1000") })]),
        volumes: map([("data", Volume::default())]),
        ..Compose::default()
    };
    let deployed = world.deploy("held", &compose).await;
    let rules = Rules { stable_for: Duration::ZERO, ..Rules::default() };
    let convergence = swarm.converge(&deployed, &rules, Duration::from_mins(1)).await.unwrap();
    assert_eq!(word(&convergence.outcome), "converged", "{convergence:#?}");
    let files = swarm.open_volume("held_data", crate::world::IMAGE).await.unwrap();
    let how = Teardown { kill: true, volumes: true, external: Vec::new(), limit: Duration::from_secs(8) };
    let torn = swarm.teardown("held", &how).await.unwrap();
    assert_eq!(torn.leaks.iter().map(ToString::to_string).collect::<Vec<_>>(), ["volume held_data"]);
    files.close().await.unwrap();
    let torn = swarm.teardown("held", &how).await.unwrap();
    assert!(torn.leaks.is_empty(), "{:?}", torn.leaks);
}

/// A front that shows a config, a secret and what the back answers.
fn shop() -> Compose {
    let used = |source: &str| ObjectUse {
        source: source.to_owned(),
        target: None,
        uid: None,
        gid: None,
        mode: None,
    };
    let answer = "cat /page; cat /run/secrets/password; echo; \
                  exec 3<>/dev/tcp/back/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3 | busybox tail -n 1";
    let front = Service {
        networks: map([("proxy", Attachment::default()), ("internal", Attachment::default())]),
        ports: vec![Port {
            target: 80,
            published: Some(8080),
            protocol: "tcp".to_owned(),
            mode: "ingress".to_owned(),
        }],
        configs: vec![used("page")],
        secrets: vec![used("password")],
        ..service(&format!(
            "echo \"{}\" > /tmp/answer; busybox nc -ll -p 80 -e bash /tmp/answer",
            answer.replace('\\', "\\\\").replace('"', "\\\"")
        ))
    };
    let back = Service {
        networks: map([("internal", Attachment::default())]),
        mounts: vec![data("/data")],
        ..service("busybox httpd -f -p 80 -h /www")
    };
    Compose {
        services: map([("front", front), ("back", back)]),
        networks: map([
            ("proxy", Network { external: true, ..Network::default() }),
            ("internal", Network::default()),
        ]),
        volumes: map([("data", Volume::default())]),
        secrets: map([(
            "password",
            Object { name: Some("shop_password_v1".to_owned()), external: true, ..Object::default() },
        )]),
        configs: map([("page", Object { file: Some("page.conf".to_owned()), ..Object::default() })]),
        ..Compose::default()
    }
}

fn data(target: &str) -> Mount {
    let source = MountSource::Volume { name: "data".to_owned(), nocopy: false };
    Mount { source, target: target.to_owned(), read_only: false }
}
