//! Recipes as their authors write them, read whole: what each comes to as a stack, and what the lint says of it.

use std::{fmt::Write as _, path::Path};

use assay_recipe::{
    Recipe,
    compose::model::{MountSource, Service},
    env::EnvFile,
    lint::{LintReport, Verdict, lint_files},
    names::stack_name,
};
use insta::assert_snapshot;

fn open(name: &str) -> Recipe {
    Recipe::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes").join(name)).unwrap()
}

fn sample(recipe: &Recipe) -> EnvFile {
    recipe.sample.clone().unwrap().unwrap()
}

/// A stack on a page.
fn show(recipe: &Recipe, env: &EnvFile) -> String {
    let name = stack_name(env.get("DOMAIN").unwrap());
    let stack = match recipe.stack(env, &name) {
        Ok(stack) => stack,
        Err(problems) => return problems.to_string(),
    };
    let mut out = format!("{} of {}\n", stack.name, stack.files.join(" "));
    for (name, service) in &stack.compose.services {
        writeln!(out, "service {name}: {}", one_line(service)).unwrap();
    }
    for need in &stack.secrets {
        let made = if need.generate { "made" } else { "given" };
        writeln!(out, "secret {}: {:?}, {made}", need.docker_name, need.kind).unwrap();
    }
    for need in &stack.configs {
        let digest = need.digest.as_deref().map_or("none", |digest| &digest[..8]);
        writeln!(
            out,
            "config {} from {} {digest}",
            need.docker_name,
            need.file.as_deref().unwrap_or("outside")
        )
        .unwrap();
    }
    writeln!(out, "version {:?}, timeout {:?}", stack.labels.version, stack.labels.timeout).unwrap();
    writeln!(
        out,
        "backup on {:?}: {:?} without {:?}",
        stack.backup.switched_on, stack.backup.covered, stack.backup.left_out
    )
    .unwrap();
    for hook in &stack.backup.hooks {
        writeln!(out, "  {:?} in {}: {}", hook.moment, hook.service, hook.command).unwrap();
    }
    for note in &stack.compose.notes {
        writeln!(out, "note {} {} {:?}", note.file, note.path, note.kind).unwrap();
    }
    for unset in &stack.unset {
        writeln!(out, "unset {} at {}:{}", unset.name, unset.file, unset.line).unwrap();
    }
    out
}

fn one_line(service: &Service) -> String {
    let mut parts = vec![service.image.clone().unwrap_or_default()];
    parts.extend(service.command.as_ref().map(|command| format!("runs {command:?}")));
    let mounts = service.mounts.iter().map(|mount| match &mount.source {
        MountSource::Volume { name, .. } => format!("{name}:{}", mount.target),
        other => format!("{other:?}:{}", mount.target),
    });
    let mut list = |what: &str, items: Vec<String>| {
        if !items.is_empty() {
            parts.push(format!("{what} {}", items.join(" ")));
        }
    };
    list("mounts", mounts.collect());
    list("secrets", service.secrets.iter().map(|used| used.source.clone()).collect());
    let mode = |mode: Option<u32>| mode.map_or(String::new(), |mode| format!("({mode:04o})"));
    list(
        "configs",
        service.configs.iter().map(|used| format!("{}{}", used.source, mode(used.mode))).collect(),
    );
    list("in", service.networks.keys().cloned().collect());
    list(
        "with",
        service
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("?")))
            .collect(),
    );
    parts.join("; ")
}

/// What a lint did not pass.
fn told(report: &LintReport) -> String {
    let mut out = String::new();
    for result in &report.results {
        if result.verdict == Verdict::Pass {
            continue;
        }
        let reason = result.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        writeln!(out, "{} {:?}{reason}", result.rule, result.verdict).unwrap();
        for finding in &result.findings {
            writeln!(out, "    {}:{} {}: {}", finding.file, finding.line, finding.path, finding.message)
                .unwrap();
        }
    }
    let passed: Vec<&str> = report.with(Verdict::Pass).map(|result| result.rule.as_str()).collect();
    writeln!(out, "passed: {}", passed.join(" ")).unwrap();
    out
}

#[test]
fn custom_html() {
    let recipe = open("custom-html");
    assert_snapshot!(show(&recipe, &sample(&recipe)), @r#"
    pages_example_com of compose.yml
    service app: nginx:1.27.2; mounts content:/usr/share/nginx/html; configs nginx_conf(0444); in proxy; with DOMAIN=pages.example.com
    config pages_example_com_nginx_conf_v2 from default.conf.tmpl 6a5233fd
    version Some("1.7.1+1.27.2"), timeout Some(120)
    backup on ["app"]: {"content": All} without {}
    "#);
    assert_snapshot!(told(&lint_files(&recipe)), @r"
    R006 NotChecked (the catalogue is on the network, and nothing there is asked)
    R013 NotChecked (the repository's server is on the network, and nothing there is asked)
    R014 Unverified (the tags cannot be read: only the files were read, and no checkout was asked)
    A001 Unverified (the release before cannot be read: only the files were read, and no checkout was asked)
    passed: R001 R002 R003 R004 R005 R007 R008 R009 R010 R011 R012 R015 A002 A003 A004 A005 A006 A007 A008 A009 A010 A011 A012 A013 A014 A015 A016 A017 A018
    ");
    let with_upload = EnvFile::parse(
        "pages.env",
        "DOMAIN=pages.example.com\nLETS_ENCRYPT_ENV=\nCOMPOSE_FILE=compose.yml:compose.upload.yml\n\
         SECRET_SSH_KEY_VERSION=v3 # generate=false\nSSH_PORT=2222\nENABLE_BACKUPS=false\n",
    )
    .unwrap();
    assert_snapshot!(show(&recipe, &with_upload), @r#"
    pages_example_com of compose.yml compose.upload.yml
    service app: nginx:1.27.2; mounts content:/usr/share/nginx/html; configs nginx_conf(0444); in proxy; with DOMAIN=pages.example.com
    service upload: example/sftp:2.1.0; mounts content:/upload; secrets ssh_key
    secret pages_example_com_ssh_key_v3: Passphrase, given
    config pages_example_com_nginx_conf_v2 from default.conf.tmpl 6a5233fd
    version Some("1.7.1+1.27.2"), timeout Some(120)
    backup on []: {} without {"content": NotSwitchedOn}
    "#);
}

#[test]
fn bonfire() {
    let recipe = open("bonfire");
    assert_snapshot!(show(&recipe, &sample(&recipe)), @r#"
    bonfire_example_com of compose.yml compose.postgres.yml compose.sonic.yml
    service app: registry.example/bonfire:1.0.6-social-amd64; runs ["bin/app", "start"]; mounts upload-data:/opt/app/data/uploads; secrets db_password key_base salt; configs app_entrypoint(0555); in proxy internal; with HOSTNAME=bonfire.example.com FLAVOUR=social SERVER_PORT=4000 DB_HOST=db LC_ALL=C.UTF-8 RELEASE_NODE=app@bonfire_example_com POSTGRES_HOST=db
    service db: postgis/postgis:17-3.5-alpine; mounts db-data:/var/lib/postgresql/data; secrets db_password; configs pg_backup(0555); in internal; with POSTGRES_DB=bonfire POSTGRES_PASSWORD_FILE=/run/secrets/db_password POSTGRES_USER=postgres
    service search: valeriansaliou/sonic:v1.4.9; mounts search-data:/var/lib/sonic/store; configs sonic_cfg(0444); in internal
    secret bonfire_example_com_db_password_v1: Password { length: 32, charset: Default }, made
    secret bonfire_example_com_key_base_v1: Password { length: 128, charset: Default }, made
    secret bonfire_example_com_salt_v1: Password { length: 64, charset: Hex }, made
    config bonfire_example_com_app_entrypoint_v4 from entrypoint.sh.tmpl cac0285c
    config bonfire_example_com_pg_backup_v1 from pg_backup.sh c297f548
    config bonfire_example_com_sonic_cfg_v2 from sonic.cfg.tmpl 5a1a60e2
    version Some("2.0.1+1.0.6-social-amd64"), timeout Some(600)
    backup on ["app"]: {"upload-data": All, "db-data": Only(["backup.sql"])} without {"search-data": ByLabel}
      BeforeBackup in db: /pg_backup.sh backup
      AfterRestore in db: /pg_backup.sh restore
    note compose.postgres.yml services.app.depends_on IgnoredBySwarm
    note compose.postgres.yml services.db.shm_size IgnoredBySwarm
    note compose.postgres.yml services.db.tmpfs IgnoredBySwarm
    "#);
    assert_snapshot!(told(&lint_files(&recipe)), @r"
    R006 NotChecked (the catalogue is on the network, and nothing there is asked)
    R013 NotChecked (the repository's server is on the network, and nothing there is asked)
    R014 Unverified (the tags cannot be read: only the files were read, and no checkout was asked)
    R015 Fail
        compose.auth.github.yml:10 secrets.oauth_client_secret: `oauth_client_secret` has 19 characters
    A001 Unverified (the release before cannot be read: only the files were read, and no checkout was asked)
    A002 Fail
        compose.auth.github.yml:7 services.app.secrets.github_client_secret: not declared in compose.yml:compose.postgres.yml:compose.sonic.yml:compose.auth.github.yml
    A003 Fail
        compose.auth.github.yml:10 secrets.oauth_client_secret: declared, and used by no service
    A009 Fail
        compose.sonic.yml:4 services.search: the healthcheck can never fail
    A012 Fail
        compose.postgres.yml:10 services.app.depends_on: Swarm starts services in no order; let the service wait for what it needs
        compose.postgres.yml:21 services.db.tmpfs: Swarm ignores it; write a volume with `type: tmpfs`
        compose.postgres.yml:24 services.db.shm_size: Swarm ignores it; remove it
    passed: R001 R002 R003 R004 R005 R007 R008 R009 R010 R011 R012 A004 A005 A006 A007 A008 A010 A011 A013 A014 A015 A016 A017 A018
    ");
    let with_github =
        EnvFile::parse("a.env", "DOMAIN=a.b\nCOMPOSE_FILE=compose.yml:compose.auth.github.yml\n").unwrap();
    assert_snapshot!(show(&recipe, &with_github), @r"
    compose.auth.github.yml:7: services.app.secrets.github_client_secret: `github_client_secret` is not declared; add it to `secrets` at the top level of the same combination of files, or correct the name
    compose.yml:64: secrets.db_password: the engine refuses the name `a_b_db_password_`: the engine takes letters, digits, `-`, `_` and `.`, with a letter or digit at both ends; does a variable in it have no value?
    compose.yml:67: secrets.key_base: the engine refuses the name `a_b_key_base_`: the engine takes letters, digits, `-`, `_` and `.`, with a letter or digit at both ends; does a variable in it have no value?
    compose.auth.github.yml:10: secrets.oauth_client_secret: the engine refuses the name `a_b_gh_secret_`: the engine takes letters, digits, `-`, `_` and `.`, with a letter or digit at both ends; does a variable in it have no value?
    ");
}

#[test]
fn ghost() {
    let recipe = open("ghost");
    assert_snapshot!(show(&recipe, &sample(&recipe)), @r#"
    ghost_example_com of compose.yml
    service app: ghost:5.110.1-alpine; runs ["node", "current/index.js"]; mounts content:/var/lib/ghost/content; secrets db_password; configs entrypoint(0555); in proxy internal; with url=https://ghost.example.com database__client=mysql database__connection__host=db DB_PASSWORD_FILE=/run/secrets/db_password
    service db: mysql:8.0; runs ["--default-authentication-plugin=mysql_native_password"]; mounts mysql:/var/lib/mysql; secrets db_password db_root_password; in internal; with MYSQL_DATABASE=ghost MYSQL_USER=ghost MYSQL_PASSWORD_FILE=/run/secrets/db_password MYSQL_ROOT_PASSWORD_FILE=/run/secrets/db_root_password MYSQL_INITDB_SKIP_TZINFO=yes
    secret ghost_example_com_db_password_v1: Password { length: 40, charset: Default }, made
    secret ghost_example_com_db_root_password_v1: Password { length: 40, charset: Default }, made
    config ghost_example_com_entrypoint_v2 from entrypoint.sh b875f928
    version None, timeout None
    backup on ["app", "db"]: {"content": All, "mysql": Only(["dump.sql"])} without {}
      BeforeBackup in db: mysqldump -u root -p$(cat /run/secrets/db_root_password) ghost > /var/lib/mysql/dump.sql
    note compose.yml services.db.environment.MYSQL_INITDB_SKIP_TZINFO Unsupported
    "#);
    assert_snapshot!(told(&lint_files(&recipe)), @r"
    R002 Fail
        compose.yml:32 services.db: `db` has no healthcheck
    R006 NotChecked (the catalogue is on the network, and nothing there is asked)
    R007 Fail
        README.md:0 Backups: `Backups` is not filled in
        README.md:0 SSO: `SSO` is not filled in
    R013 NotChecked (the repository's server is on the network, and nothing there is asked)
    R014 Unverified (the tags cannot be read: only the files were read, and no checkout was asked)
    R015 Fail
        compose.smtp.yml:9 secrets.smtp_password: `smtp_password` has 13 characters
        compose.yml:54 secrets.db_root_password: `db_root_password` has 16 characters
    A001 Unverified (the release before cannot be read: only the files were read, and no checkout was asked)
    A003 Fail
        compose.yml:51 volumes.old: declared, and used by no service
    A004 Fail
        compose.yml:54 secrets.db_root_password: its name has 65 characters under a stack name of 45, and the engine takes 64
    A006 Fail
        compose.yml:45 services.db.deploy.labels: `backupbot.backup` is on for app, db
    A012 Fail
        compose.yml:40 services.db.environment.MYSQL_INITDB_SKIP_TZINFO: without quotes `yes` is a boolean, which `docker stack deploy` refuses here in older releases; quote it
    A013 Fail
        compose.smtp.yml:6 services.app.environment[1]: `SMTP_PORT` is set nowhere and has no default
    A017 Fail
        compose.yml:4 services.app: there is no label with the version
    passed: R001 R003 R004 R005 R008 R009 R010 R011 R012 A002 A005 A007 A008 A009 A010 A011 A014 A015 A016 A018
    ");
}

#[test]
fn plausible() {
    let recipe = open("plausible");
    assert_snapshot!(show(&recipe, &sample(&recipe)), @r"
    .env.sample:6: SECRET_SECRET_KEY_BASE_VERSION: `charset=emoji` is not one of default, hex, safespecial, special
    .env.sample:6: SECRET_SECRET_KEY_BASE_VERSION: `length=sixty` is not a number of characters from 1 to 4096
    compose.yml:54: configs.clickhouse_conf: the engine refuses the name `plausible_example_com_clickhouse_conf_`: the engine takes letters, digits, `-`, `_` and `.`, with a letter or digit at both ends; does a variable in it have no value?
    ");
    assert_snapshot!(told(&lint_files(&recipe)), @r"
    R004 Fail
        compose.yml:41 services.events_db: the tag of `clickhouse/clickhouse-server:latest` is moved to other images
    R006 NotChecked (the catalogue is on the network, and nothing there is asked)
    R007 Fail
        README.md:0 : there are no `<!-- metadata -->` and `<!-- endmetadata -->`
    R012 Unverified (`CLICKHOUSE_CONF_VERSION` in `abra.sh` has a value that only a shell could know)
    R013 NotChecked (the repository's server is on the network, and nothing there is asked)
    R014 Unverified (the tags cannot be read: only the files were read, and no checkout was asked)
    R015 Fail
        compose.yml:51 secrets.secret_key_base: `secret_key_base` has 15 characters
    A001 Unverified (the release before cannot be read: only the files were read, and no checkout was asked)
    A007 Fail
        compose.yml:38 services.db.deploy.labels: a label is about the volume `db_data`, which no file declares
    A009 Fail
        compose.yml:41 services.events_db: the healthcheck is switched off
    A012 Fail
        compose.yml:11 services.app.depends_on: Swarm starts services in no order; let the service wait for what it needs
    A013 Fail
        compose.yml:54 configs.clickhouse_conf.name: `CLICKHOUSE_CONF_VERSION` is set nowhere and has no default
    A014 Fail
        compose.yml:3 services.app.healthcheck.interval: `${HEALTH_INTERVAL:-30s}` is refused before it is filled in
        compose.yml:3 services.db.healthcheck.interval: `${HEALTH_INTERVAL:-30s}` is refused before it is filled in
    A016 Fail
        .env.sample:6 SECRET_SECRET_KEY_BASE_VERSION: `charset=emoji` is not one of default, hex, safespecial, special
        .env.sample:6 SECRET_SECRET_KEY_BASE_VERSION: `length=sixty` is not a number of characters from 1 to 4096
    passed: R001 R002 R003 R005 R008 R009 R010 R011 A002 A003 A004 A005 A006 A008 A010 A011 A015 A017 A018
    ");
    let forgotten = EnvFile::parse("a.env", "DOMAIN=a.b\n").unwrap();
    assert_snapshot!(show(&recipe, &forgotten), @"compose.yml:14: services.app.environment.DISABLE_REGISTRATION: variable `DISABLE_REGISTRATION` must be set: say whether people may register");
}

#[test]
fn keycloak() {
    let recipe = open("keycloak");
    let combinations: Vec<String> =
        sample(&recipe).combinations().iter().map(|files| files.join(" ")).collect();
    assert_snapshot!(combinations.join("\n"), @r"
    compose.yml
    compose.yml compose.mariadb.yml
    compose.yml compose.postgres.yml
    ");
    let mut env =
        "DOMAIN=login.example.com\nADMIN_USERNAME=admin\nWELCOME_THEME=x\nSECRET_ADMIN_PASSWORD_VERSION=v1\n\
                   SECRET_DB_PASSWORD_VERSION=v1\n"
            .to_owned();
    env.push_str("COMPOSE_FILE=compose.yml:compose.postgres.yml\n");
    assert_snapshot!(show(&recipe, &EnvFile::parse("a.env", &env).unwrap()), @r#"
    login_example_com of compose.yml compose.postgres.yml
    service app: quay.example/keycloak/keycloak:26.0.5; mounts providers:/opt/keycloak/providers; secrets admin_password db_password; in proxy internal; with KC_DB=postgres KC_DB_URL_HOST=db KC_HOSTNAME=https://login.example.com KC_SPI_CONNECTIONS_JPA_LEGACY_MIGRATION_STRATEGY=update KEYCLOAK_ADMIN=admin KEYCLOAK_WELCOME_THEME=x
    service db: postgres:16.4; mounts db:/var/lib/postgresql/data; secrets db_password; in internal; with POSTGRES_DB=keycloak POSTGRES_PASSWORD_FILE=/run/secrets/db_password
    secret login_example_com_admin_password_v1: Passphrase, made
    secret login_example_com_db_password_v1: Passphrase, made
    version Some("10.6.0+26.0.5"), timeout None
    backup on ["app"]: {"providers": All, "db": All} without {}
    "#);
    assert_snapshot!(told(&lint_files(&recipe)), @r"
    R006 NotChecked (the catalogue is on the network, and nothing there is asked)
    R013 NotChecked (the repository's server is on the network, and nothing there is asked)
    R014 Unverified (the tags cannot be read: only the files were read, and no checkout was asked)
    R015 Fail
        compose.yml:29 secrets.admin_password: `admin_password` has 14 characters
    A001 Unverified (the release before cannot be read: only the files were read, and no checkout was asked)
    passed: R001 R002 R003 R004 R005 R007 R008 R009 R010 R011 R012 A002 A003 A004 A005 A006 A007 A008 A009 A010 A011 A012 A013 A014 A015 A016 A017 A018
    ");
}

#[test]
fn lasuite_drive() {
    let recipe = open("lasuite-drive");
    assert_snapshot!(show(&recipe, &sample(&recipe)), @r#"
    drive_example_com of compose.yml
    service app: nginx:1.27-alpine; configs nginx_conf; in proxy internal
    service backend: lasuite/drive-backend:v0.4.0; secrets db_pw django_key minio_pw oidc; configs backend_env(0555); in internal; with DJANGO_CONFIGURATION=Production AWS_S3_ENDPOINT_URL=http://minio:9000 DJANGO_SERVER_TO_SERVER_API_TOKENS= DB_HOST=db OIDC_OP_URL=https://login.example.com/realms/main DJANGO_ALLOWED_HOSTS=drive.example.com
    service celery: lasuite/drive-backend:v0.4.0; runs ["celery", "-A", "drive.celery_app", "worker", "-l", "INFO"]; secrets db_pw django_key minio_pw oidc; configs backend_env(0555); in internal; with DJANGO_CONFIGURATION=Production AWS_S3_ENDPOINT_URL=http://minio:9000 DJANGO_SERVER_TO_SERVER_API_TOKENS= DB_HOST=db OIDC_OP_URL=https://login.example.com/realms/main DJANGO_ALLOWED_HOSTS=drive.example.com
    service migrate: lasuite/drive-backend:v0.4.0; runs ["python", "manage.py", "migrate", "--no-input"]; secrets db_pw django_key minio_pw oidc; configs backend_env(0555); in internal; with DJANGO_CONFIGURATION=Migrate AWS_S3_ENDPOINT_URL=http://minio:9000 DJANGO_SERVER_TO_SERVER_API_TOKENS= DB_HOST=db OIDC_OP_URL=https://login.example.com/realms/main DJANGO_ALLOWED_HOSTS=drive.example.com
    service bucket: minio/mc:RELEASE.2024-11-17T19-35-25Z; secrets minio_pw; in internal
    service minio: minio/minio:RELEASE.2024-11-07T00-52-20Z; runs ["server", "--console-address", ":9001", "/data"]; mounts minio:/data; secrets minio_pw; in internal
    service db: postgres:16.6; mounts postgres:/var/lib/postgresql/data; secrets db_pw; in internal; with POSTGRES_PASSWORD_FILE=/run/secrets/db_pw PGDATA=/var/lib/postgresql/data/pgdata
    service redis: redis:7.4; mounts redis:/data; in internal
    secret drive_example_com_db_pw_v1: Password { length: 32, charset: Default }, made
    secret drive_example_com_django_key_v1: Password { length: 64, charset: SafeSpecial }, made
    secret drive_example_com_minio_pw_v1: Password { length: 32, charset: Default }, made
    secret drive_example_com_oidc_v1: Passphrase, given
    config drive_example_com_backend_env_v1 from backend-entrypoint.sh 9a25614e
    config drive_example_com_nginx_conf_v1 from nginx.conf.tmpl 355da02c
    version Some("0.1.0+v0.4.0"), timeout None
    backup on ["app"]: {"minio": All, "postgres": Only(["dump.sql"])} without {"redis": ByLabel}
      BeforeBackup in db: pg_dump -U postgres -f /var/lib/postgresql/data/dump.sql
      AfterRestore in db: psql -U postgres -f /var/lib/postgresql/data/dump.sql
    "#);
    assert_snapshot!(told(&lint_files(&recipe)), @r"
    R006 NotChecked (the catalogue is on the network, and nothing there is asked)
    R013 NotChecked (the repository's server is on the network, and nothing there is asked)
    R014 Unverified (the tags cannot be read: only the files were read, and no checkout was asked)
    A001 Unverified (the release before cannot be read: only the files were read, and no checkout was asked)
    passed: R001 R002 R003 R004 R005 R007 R008 R009 R010 R011 R012 R015 A002 A003 A004 A005 A006 A007 A008 A009 A010 A011 A012 A013 A014 A015 A016 A017 A018
    ");
}

#[test]
fn a_broken_recipe_is_told_everything_at_once() {
    let recipe = open("broken");
    assert_snapshot!(show(&recipe, &sample(&recipe)), @r"
    compose.yml:5: services.web.secrets.not_declared: `not_declared` is not declared; add it to `secrets` at the top level of the same combination of files, or correct the name
    compose.yml:7: services.web.networks.nowhere: `nowhere` is not declared; add it to `networks` at the top level of the same combination of files, or correct the name
    compose.yml:8: services.web.volumes.nothing: `nothing` is not declared; add it to `volumes` at the top level of the same combination of files, or correct the name
    compose.yml:13: services.web.deploy.replicas: a global service runs once on every node; remove `replicas`, or the mode
    compose.yml:18: services.a_service_with_quite_a_name: port 80/tcp is published by another service as well (web); give one of them another
    compose.yml:24: configs.conf: its file `not-here.conf` cannot be read: there is no such file; add it to the recipe, or correct the name
    compose.yml:25: configs.gone: its file `../../secret` cannot be read: it is outside of the recipe; add it to the recipe, or correct the name
    compose.yml:25: configs.gone: the engine refuses the name `x_example_com_gone_`: the engine takes letters, digits, `-`, `_` and `.`, with a letter or digit at both ends; does a variable in it have no value?
    ");
    let report = lint_files(&recipe);
    assert!(report.has_errors());
    assert_snapshot!(told(&report), @r"
    R001 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:1 version: the version is `3.7`
    R002 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:4 services.web: `web` has no healthcheck
    R003 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:4 services.web: `example/web` has no tag
    R004 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:18 services.a_service_with_quite_a_name: the tag of `example/other:latest` is moved to other images
    R005 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    R006 NotChecked (the catalogue is on the network, and nothing there is asked)
    R007 Fail
        README.md:0 : there is no README.md
    R009 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:3 services: no service is called `app`
    R010 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:0 services.app: no service has the deploy label `traefik.enable=true`
    R011 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    R012 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:24 configs.conf: the name of `conf` has no version: write `name: ${STACK_NAME}_conf_${…_VERSION}`
        compose.yml:25 configs.gone: its version is `GONE_VERSION`, and there is no `abra.sh`
    R013 NotChecked (the repository's server is on the network, and nothing there is asked)
    R014 Unverified (the tags cannot be read: only the files were read, and no checkout was asked)
    R015 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:22 secrets.a_secret_with_a_very_long_name: `a_secret_with_a_very_long_name` has 30 characters
    A001 Unverified (the release before cannot be read: only the files were read, and no checkout was asked)
    A002 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:5 services.web.secrets.not_declared: not declared in compose.yml
        compose.yml:7 services.web.networks.nowhere: not declared in compose.yml
        compose.yml:8 services.web.volumes.nothing: not declared in compose.yml
    A003 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:26 volumes.unused: declared, and used by no service
    A004 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:18 services.a_service_with_quite_a_name: its name has 73 characters under a stack name of 45, and the engine takes 63
        compose.yml:22 secrets.a_secret_with_a_very_long_name: its name has 79 characters under a stack name of 45, and the engine takes 64
    A005 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:18 services.a_service_with_quite_a_name: port 80/tcp is published by another service as well (web); give one of them another
    A006 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A007 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A008 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:15 services.web.deploy.labels: the label `backupbot.backup` with `maybe` means nothing
        compose.yml:15 services.web.deploy.labels: there are hooks, and no service has `backupbot.backup`, so they never run
    A009 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:18 services.a_service_with_quite_a_name: the healthcheck can never fail
    A010 Fail
        COMPOSE_FILE:0 : `compose.never-written.yml` is no file of the recipe (there is no such file); it has compose.yml
    A011 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:24 configs.conf: `not-here.conf` cannot be read: there is no such file
        compose.yml:25 configs.gone: `../../secret` cannot be read: it is outside of the recipe
    A012 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:10 services.web.depends_on: Swarm starts services in no order; let the service wait for what it needs
    A013 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:25 configs.gone.name: `GONE_VERSION` is set nowhere and has no default
    A014 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A015 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:22 secrets.a_secret_with_a_very_long_name: its name is `${STACK_NAME}_a_secret_with_a_very_long_name_v1`, without a variable for its version
    A016 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A017 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:0 services.app: there is no label with the version
    A018 Fail (not everything could be read (A010 says what), so this speaks for the rest alone)
        compose.yml:13 services.web.deploy.replicas: a global service runs once on every node; remove `replicas`, or the mode
    passed: R008
    ");
}

#[test]
fn a_careless_recipe() {
    let recipe = open("careless");
    assert_snapshot!(told(&lint_files(&recipe)), @r"
    R001 Fail
        compose.yml:1 version: without quotes the version is a number, and `docker stack deploy` wants a text
    R005 Fail
        compose.yml:4 services.app: the tag of `nginx:stable-perl` is no version
    R006 NotChecked (the catalogue is on the network, and nothing there is asked)
    R007 Fail
        README.md:0 : there is no README.md
    R008 Fail
        .env.sample:0 : there is no `.env.sample`
    R010 Unverified (without an `.env.sample` it is not known whether the app is opened through traefik)
    R011 Fail
        compose.yml:7 services.worker: `worker` has no image
    R013 NotChecked (the repository's server is on the network, and nothing there is asked)
    R014 Unverified (the tags cannot be read: only the files were read, and no checkout was asked)
    A001 Unverified (the release before cannot be read: only the files were read, and no checkout was asked)
    A011 Fail
        compose.yml:11 secrets.token: `./token.txt` cannot be read: there is no such file
    A013 Unverified (there is no `.env.sample`)
    A016 Skip (there is no `.env.sample` that could say anything of them)
    A017 Fail
        compose.yml:4 services.app: there is no label with the version
    passed: R002 R003 R004 R009 R012 R015 A002 A003 A004 A005 A006 A007 A008 A009 A010 A012 A014 A015 A018
    ");
    assert_snapshot!(recipe.stack(&EnvFile::default(), "careless").unwrap_err(), @r"
    compose.yml:7: services.worker: it has no image; name one in `image`
    compose.yml:11: secrets.token: its file cannot be read: there is no such file; add it to the recipe, or make it external
    ");
}

#[test]
fn what_cannot_be_parsed_is_no_pass() {
    let recipe = open("unparsable");
    assert_snapshot!(show(&recipe, &sample(&recipe)), @"compose.yml:6: this is no YAML that can be read: while parsing a block mapping, did not find expected key");
    assert_snapshot!(told(&lint_files(&recipe)), @r"
    R001 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    R002 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    R003 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    R004 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    R005 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    R006 NotChecked (the catalogue is on the network, and nothing there is asked)
    R007 Fail
        README.md:0 : there is no README.md
    R009 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    R010 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    R011 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    R012 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    R013 NotChecked (the repository's server is on the network, and nothing there is asked)
    R014 Unverified (the tags cannot be read: only the files were read, and no checkout was asked)
    R015 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A001 Unverified (the release before cannot be read: only the files were read, and no checkout was asked)
    A002 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A003 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A004 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A005 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A006 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A007 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A008 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A009 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A010 Fail
        compose.yml:6 : this is no YAML that can be read: while parsing a block mapping, did not find expected key
    A011 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A012 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A013 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A014 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A015 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A016 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A017 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    A018 Unverified (not everything could be read (A010 says what), so this speaks for the rest alone)
    passed: R008
    ");
}
