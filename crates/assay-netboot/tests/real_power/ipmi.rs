//! The IPMI driver and a BMC that works, one that refuses, one that is gone and one that dawdles.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use assay_netboot::power::{PowerDriver, PowerError, PowerSettings, PowerState};
use assay_process::{Cmd, Signal};
use serde_json::json;
use tokio::time::timeout;

use crate::bench::{Bmc, PASSWORD, PATIENCE, USER};

#[tokio::test]
async fn a_machine_is_switched_and_each_change_is_read_back() {
    let bmc = Bmc::new().await;
    let driver = bmc.driver();
    assert_eq!(driver.status().await.expect("a state"), PowerState::Off);
    driver.on().await.expect("on");
    assert_eq!(
        (bmc.holds("power"), driver.status().await.expect("a state")),
        ("1".to_owned(), PowerState::On)
    );
    driver.on().await.expect("on is on");
    assert_eq!(bmc.holds("switched"), "1", "a machine that is on is not switched on");

    let words = driver.cycle().await.expect("cycled").to_string();
    assert_eq!(bmc.holds("switched"), "1 0 1");
    assert_eq!(bmc.holds("boot"), "pxe");
    assert!(
        words.starts_with("BMC 127.0.0.1 (IPMI) switched off in ") && words.contains("from the network"),
        "{words}"
    );

    driver.off().await.expect("off");
    assert_eq!(bmc.holds("power"), "0");
    let words = driver.cycle().await.expect("from off").to_string();
    assert!(words.contains("was off, next boot is from the network, switched on in "), "{words}");
    assert_eq!(bmc.holds("switched"), "1 0 1 0 1");
}

#[tokio::test]
async fn a_password_comes_from_the_runners_file_and_is_on_no_command_line() {
    // The script of the BMC looks at every command line while ipmitool waits for it.
    let bmc = Bmc::with_script("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >> seen").await;
    let secrets = bmc.path("bmc-secrets.toml");
    let entry = format!("[rack1]\nuser = '{USER}'\npassword = {PASSWORD:?}\naddresses = ['127.0.0.0/8']\n");
    fs::write(&secrets, entry).expect("written");
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).expect("a mode");
    let settings =
        json!({"method": "ipmi", "address": "127.0.0.1", "credential": "rack1", "cipher_suite": 3});
    let settings: PowerSettings = serde_json::from_value(settings).expect("it reads");
    let driver = PowerDriver::open(&settings, &secrets, &bmc.site()).expect("a driver");
    assert_eq!(driver.status().await.expect("a state"), PowerState::Off);
    let seen = bmc.holds("seen");
    assert!(seen.contains("ipmitool -v -I lanplus"), "it was looked while ipmitool ran: {seen}");
    assert!(!seen.contains("s3cret"));
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_user_are_told_apart_and_nothing_is_switched() {
    let bmc = Bmc::new().await;
    let error = bmc.driver_of(Bmc::settings(), USER, "wrong").status().await.expect_err("refused");
    assert_eq!(error.code(), "BmcWrongPassword", "{error}");
    assert!(
        error.to_string().contains("password is wrong") && !error.to_string().contains("\"wrong\""),
        "{error}"
    );
    let error = bmc.driver_of(Bmc::settings(), "nobody", PASSWORD).status().await.expect_err("refused");
    assert!(error.to_string().contains("does not know that user"), "{error}");
    let error = bmc.driver_of(Bmc::settings(), USER, "wrong").cycle().await.expect_err("refused");
    assert_eq!(error.code(), "BmcWrongPassword", "{error}");
    assert_eq!(bmc.holds("switched"), "", "nothing was switched");
}

#[tokio::test]
async fn a_bmc_that_is_not_there_is_unreachable_after_the_time_limit() {
    let bmc = Bmc::new().await;
    let mut settings = Bmc::settings();
    (settings.port, settings.timeout_s) = (6230, 5);
    let error = bmc.driver_of(settings.clone(), USER, PASSWORD).status().await.expect_err("nobody is there");
    assert_eq!(error.code(), "BmcUnreachable", "{error}");
    "no-such-bmc.invalid".clone_into(&mut settings.address);
    let error = bmc.driver_of(settings, USER, PASSWORD).status().await.expect_err("no such name");
    assert!(error.to_string().contains("its name has no address"), "{error}");
}

#[tokio::test]
async fn a_frozen_bmc_is_asked_again_until_it_is_back() {
    let bmc = Bmc::new().await;
    bmc.child.signal(Signal::STOP).expect("frozen");
    let mut settings = Bmc::settings();
    settings.timeout_s = 5;
    let error = bmc.driver_of(settings, USER, PASSWORD).status().await.expect_err("frozen");
    assert_eq!(error.code(), "BmcUnreachable", "{error}");
    let driver = bmc.driver();
    let back = async {
        // ipmitool is at it: now the BMC comes back.
        let waiting = Cmd::new("sh")
            .args(["-c", "until ss -Hunp | grep -q ipmitool; do :; done"])
            .netns(Some(&bmc.netns.0))
            .timeout(PATIENCE);
        waiting.run_ok().await.expect("it asks");
        bmc.child.signal(Signal::CONT).expect("back");
    };
    let (state, ()) = tokio::join!(driver.status(), back);
    assert_eq!(state.expect("a state"), PowerState::Off);
}

#[tokio::test]
async fn a_bmc_that_stalls_over_its_machine_is_slow_and_not_unreachable() {
    let bmc = Bmc::with_script("[ -p gate ] && read -r _ < gate").await;
    let driver = bmc.driver();
    assert_eq!(driver.status().await.expect("no gate yet"), PowerState::Off);
    let gate = bmc.path("gate");
    Cmd::new("mkfifo").arg(&gate).run_ok().await.expect("a gate");
    let mut settings = Bmc::settings();
    settings.timeout_s = 5;
    let error = bmc.driver_of(settings, USER, PASSWORD).status().await.expect_err("it stalls");
    assert_eq!(error.code(), "BmcSlow", "{error}");
    assert!(error.to_string().contains("timeout_s"), "{error}");
    // Whoever waits at the gate goes through, and so does everybody later.
    let open = format!("mv {gate} {gate}.open; echo go > {gate}.open", gate = gate.display());
    Cmd::new("sh").args(["-c", &open]).timeout(PATIENCE).run_ok().await.expect("opened");
    let state = timeout(PATIENCE, driver.status()).await.expect("in time");
    assert_eq!(state.expect("a state"), PowerState::Off);
}

#[tokio::test]
async fn an_order_that_is_taken_and_not_followed_is_no_success() {
    let bmc = Bmc::new().await;
    fs::write(bmc.path("stuck"), "").expect("stuck");
    let mut settings = Bmc::settings();
    settings.timeout_s = 5;
    let error = bmc.driver_of(settings, USER, PASSWORD).on().await.expect_err("it stays off");
    let PowerError::NotConfirmed { wanted, seen, after, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*wanted, *seen, *after), (PowerState::On, PowerState::Off, Duration::from_secs(5)));
    assert_eq!(bmc.holds("switched"), "1", "it was ordered once");
}

#[tokio::test]
async fn a_next_boot_that_is_not_kept_is_told_and_does_not_stop_the_machine() {
    let bmc = Bmc::new().await;
    fs::write(bmc.path("deaf"), "").expect("deaf");
    let error = bmc.driver().netboot_next().await.expect_err("not kept");
    assert!(error.to_string().contains("it agreed, and yet the next boot is"), "{error}");
    let words = bmc.driver().cycle().await.expect("cycled").to_string();
    assert!(words.contains("its own boot order decides"), "{words}");
    assert_eq!(bmc.holds("power"), "1");
}
