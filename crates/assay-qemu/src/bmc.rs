//! The BMC of a lab machine: what OpenIPMI's `ipmi_sim` is told to be.
//!
//! A machine with `bmc = "ipmi"` has a computer beside it that is on while the machine is off, as real servers do: it
//! answers IPMI on the lab's network, and on the machine's own KCS port, switches the machine through the lab, and
//! reads its sensors from files, one number each, so that a rail can sag or a fan stop while the machine runs.
//!
//! This file is pure: from a machine to configuration, sensor records and the script between BMC and lab. The
//! process is [`Lab`](crate::Lab)'s.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr, path::Path};

use serde::{Deserialize, Serialize};

/// The user of every lab BMC.
pub(crate) const USER: &str = "assay";
/// Its password; the lab's network is private.
pub(crate) const PASSWORD: &str = "lab-bmc";
/// `ipmi_sim` has no other that counts, and does not say so.
const CIPHER_SUITE: u8 = 3;
/// A machine's unit is added to these.
const LAN_PORTS: u16 = 6200;
const GUEST_PORTS: u16 = 6500;
const SERIAL_PORTS: u16 = 6800;

/// What `bmc =` in a machine file may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BmcKind {
    /// One that speaks IPMI 2.0.
    Ipmi,
}

/// A machine's BMC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bmc {
    /// What it is.
    pub kind: BmcKind,
    /// The machine's unit: it makes the ports differ.
    pub unit: u8,
    /// What sensors read at power-on where it is not the usual, by name: millivolts, revolutions per minute,
    /// degrees Celsius, or bits.
    #[serde(default)]
    pub sensors: BTreeMap<String, u32>,
}

/// How a BMC is reached, from inside the lab's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmcAccess {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its UDP port.
    pub port: u16,
    /// Its user.
    pub user: &'static str,
    /// The user's password.
    pub password: &'static str,
    /// The one cipher suite that it has.
    pub cipher_suite: u8,
}

/// A sensor: a threshold sensor with a linear scale, or (`Kind::Supply`) one of bits.
struct Sensor {
    name: &'static str,
    kind: Kind,
    /// What its file holds unless told otherwise.
    usual: u32,
}

enum Kind {
    /// Millivolts; a raw one is this many tenths of a millivolt, which the record says as `multiplier` and power of
    /// ten. 200 raw is what the rail should have.
    Rail { tenths: u16, multiplier: u16, exponent: i8 },
    /// Revolutions per minute, 60 for each raw one.
    Fan,
    /// Degrees Celsius.
    Temperature,
    /// Bits: 0 present, 1 failed, 2 will fail, 3 no input.
    Supply,
}

const SENSORS: [Sensor; 9] = [
    Sensor { name: "P12V", kind: Kind::Rail { tenths: 600, multiplier: 6, exponent: -2 }, usual: 12_000 },
    Sensor { name: "P5V", kind: Kind::Rail { tenths: 250, multiplier: 25, exponent: -3 }, usual: 5_000 },
    Sensor { name: "P3V3", kind: Kind::Rail { tenths: 165, multiplier: 165, exponent: -4 }, usual: 3_300 },
    Sensor { name: "FAN1", kind: Kind::Fan, usual: 6_000 },
    Sensor { name: "FAN2", kind: Kind::Fan, usual: 6_060 },
    Sensor { name: "INLET", kind: Kind::Temperature, usual: 24 },
    Sensor { name: "CPU", kind: Kind::Temperature, usual: 41 },
    Sensor { name: "PSU1", kind: Kind::Supply, usual: 1 },
    Sensor { name: "PSU2", kind: Kind::Supply, usual: 1 },
];

impl Bmc {
    /// The usual BMC of the machine with that unit.
    pub fn new(kind: BmcKind, unit: u8) -> Self {
        Self { kind, unit, sensors: BTreeMap::new() }
    }

    /// Its UDP port on the lab's address.
    pub fn port(&self) -> u16 {
        LAN_PORTS + u16::from(self.unit)
    }

    /// The TCP port in the lab's namespace on which it waits for the machine's KCS interface.
    pub(crate) fn guest_port(&self) -> u16 {
        GUEST_PORTS + u16::from(self.unit)
    }

    /// The TCP port in the lab's namespace on which the machine has its serial port, for serial over LAN.
    pub(crate) fn serial_port(&self) -> u16 {
        SERIAL_PORTS + u16::from(self.unit)
    }

    pub(crate) fn access(&self, address: Ipv4Addr) -> BmcAccess {
        BmcAccess { address, port: self.port(), user: USER, password: PASSWORD, cipher_suite: CIPHER_SUITE }
    }

    /// All sensors with what they read at power-on.
    pub(crate) fn readings(&self) -> impl Iterator<Item = (&'static str, u32)> {
        SENSORS
            .iter()
            .map(|sensor| (sensor.name, self.sensors.get(sensor.name).copied().unwrap_or(sensor.usual)))
    }

    /// The first reading that no sensor can have, and why.
    pub(crate) fn problem(&self) -> Option<(String, String)> {
        self.sensors.iter().find_map(|(name, value)| Some((name.clone(), reading_problem(name, *value)?)))
    }
}

/// Why `name` cannot read `value`.
pub(crate) fn reading_problem(name: &str, value: u32) -> Option<String> {
    let Some(sensor) = SENSORS.iter().find(|sensor| sensor.name == name) else {
        let known: Vec<_> = SENSORS.iter().map(|sensor| sensor.name).collect();
        return Some(format!("there is no such sensor; the BMC has {}", known.join(", ")));
    };
    let most = match sensor.kind {
        Kind::Rail { tenths, .. } => 255 * u32::from(tenths) / 10,
        Kind::Fan => 255 * 60,
        Kind::Temperature => 255,
        Kind::Supply => 0x0f,
    };
    (value > most).then(|| format!("{value} is more than it can show ({most})"))
}

/// `ipmi_sim`'s configuration. Paths must be free of quotes.
pub(crate) fn configuration(name: &str, bmc: &Bmc, address: Ipv4Addr, script: &Path) -> String {
    let (port, guest, serial, script) = (bmc.port(), bmc.guest_port(), bmc.serial_port(), script.display());
    format!(
        "# Written by Assay at every start; changes are lost.\n\
         name \"{name}\"\n\
         set_working_mc 0x20\n\
         startlan 1\n\
         addr {address} {port}\n\
         priv_limit admin\n\
         allowed_auths_operator md5\n\
         allowed_auths_admin md5\n\
         # Without it, ipmi_sim speaks IPMI 1.5 only.\n\
         guid 617373617920620000000000000000{unit:02x}\n\
         endlan\n\
         chassis_control \"'{script}' 0x20\"\n\
         serial kcs 127.0.0.1 {guest} codec VM ipmb 0x20\n\
         sol \"tcp:127.0.0.1:{serial}\" 115200\n\
         user 2 true \"{USER}\" \"{PASSWORD}\" admin 10 md5\n",
        unit = bmc.unit,
    )
}

/// `ipmi_sim`'s start-up commands: the controller, its event log and its sensors, which read files in `folder`.
pub(crate) fn commands(folder: &Path) -> String {
    let mut text = "# Written by Assay at every start; changes are lost.\n\
                    mc_setbmc 0x20\n\
                    mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\n\
                    sel_enable 0x20 1000 0x0a\n"
        .to_owned();
    for (at, sensor) in (1_u8..).zip(&SENSORS) {
        let record: Vec<_> = sensor.record(at).iter().map(|byte| format!("{byte:#04x}")).collect();
        let file = folder.join(sensor.name);
        let (kind, reading) = (sensor.kind.number(), sensor.kind.reading_type());
        let (scale, [comes, goes]) = match sensor.kind {
            Kind::Rail { tenths, .. } => (format!(" mult=10 div={tenths}"), EVENTS_THRESHOLD),
            Kind::Fan => (" div=60".to_owned(), EVENTS_THRESHOLD),
            Kind::Temperature => (String::new(), EVENTS_THRESHOLD),
            Kind::Supply => (String::new(), EVENTS_SUPPLY),
        };
        let _ = writeln!(text, "main_sdr_add 0x20 {}", record.join(" "));
        let _ = writeln!(
            text,
            "sensor_add 0x20 0 {at} {kind} {reading:#04x} poll 250 file \"{}\"{scale}",
            file.display()
        );
        if let Some(thresholds) = sensor.kind.thresholds() {
            let values: Vec<_> = thresholds.iter().rev().map(ToString::to_string).collect();
            let _ = writeln!(text, "sensor_set_threshold 0x20 0 {at} settable 111111 {}", values.join(" "));
        }
        let _ = writeln!(
            text,
            "sensor_set_event_support 0x20 0 {at} enable scanning per-state {comes} {goes} {comes} {goes}"
        );
    }
    text.push_str("mc_enable 0x20\n");
    text
}

/// Which states are logged when they come, and when they go.
const EVENTS_THRESHOLD: [&str; 2] = ["000111111111111"; 2];
/// A power supply that is there when the BMC starts is no event; one that is pulled is.
const EVENTS_SUPPLY: [&str; 2] = ["000000000001110", "000000000001111"];

/// What is between the BMC and the machine: a script that `ipmi_sim` calls and that calls the lab. Switching on goes
/// on in the background, as it does with a real BMC, which answers at once and is asked later how it went. Switching
/// off is waited for: `ipmi_sim` looks a second later whether it may switch on again, and gives up if not.
pub(crate) fn script(name: &str, pid_file: &Path, boot_file: &Path, log: &Path, switch: &[String]) -> String {
    let quote = |path: &Path| quoted(&path.display().to_string());
    let switch: Vec<_> = switch.iter().map(|word| quoted(word)).collect();
    let switch = switch.join(" ").replace(&quoted(SWITCH), "\"$1\"");
    format!(
        "#!/bin/sh\n\
         # Written by Assay: what the BMC of the lab machine {name} can do to it.\n\
         pid={pid}\n\
         boot={boot}\n\
         is_on() {{ p=$(cat \"$pid\" 2>/dev/null) && tr '\\0' '\\n' < \"/proc/$p/cmdline\" 2>/dev/null | grep -qxF -- \"$pid\"; }}\n\
         switch() {{ {switch} >> {log} 2>&1 < /dev/null; }}\n\
         start() {{ setsid -f {start} >> {log} 2>&1 < /dev/null; }}\n\
         case \"$2 $3\" in\n\
         'get power') if is_on; then echo power:1; else echo power:0; fi ;;\n\
         'set power') if [ \"$4\" = 0 ]; then switch off; else start on; fi ;;\n\
         'set reset') if is_on; then start cycle; fi ;;\n\
         'get boot') echo \"boot:$(cat \"$boot\" 2>/dev/null || echo none)\" ;;\n\
         'set boot') echo \"$4\" > \"$boot\" ;;\n\
         *) exit 1 ;;\n\
         esac\n",
        pid = quote(pid_file),
        boot = quote(boot_file),
        log = quote(log),
        start = switch,
    )
}

/// Stands for `on`, `off` or `cycle` in the words that [`script`] is given.
pub(crate) const SWITCH: &str = "{switch}";

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Kind {
    /// The sensor type of the IPMI standard.
    fn number(&self) -> u8 {
        match self {
            Self::Temperature => 0x01,
            Self::Rail { .. } => 0x02,
            Self::Fan => 0x04,
            Self::Supply => 0x08,
        }
    }

    /// Whether it compares with thresholds or has bits of its own.
    fn reading_type(&self) -> u8 {
        if matches!(self, Self::Supply) { 0x6f } else { 0x01 }
    }

    /// Raw: lower non-critical, critical, non-recoverable, then upper.
    fn thresholds(&self) -> Option<[u8; 6]> {
        match self {
            // 5 % is what ATX allows; 10 % is what nothing survives for long.
            Self::Rail { .. } => Some([193, 190, 180, 207, 210, 220]),
            Self::Fan => Some([20, 15, 10, 200, 210, 220]),
            Self::Temperature => Some([3, 2, 1, 75, 85, 95]),
            Self::Supply => None,
        }
    }
}

impl Sensor {
    /// Its record in the repository (IPMI 2.0, tables 43-1 and 43-2).
    fn record(&self, number: u8) -> Vec<u8> {
        // Owner BMC; entity: power supply or system board.
        let entity = if matches!(self.kind, Kind::Supply) { 0x0a } else { 0x07 };
        let mut body = vec![0x20, 0x00, number, entity, 0x01];
        let Some([lnc, lc, lnr, unc, uc, unr]) = self.kind.thresholds() else {
            body.extend([0x67, 0x40, self.kind.number(), 0x6f]);
            body.extend([0x0f, 0, 0x0f, 0, 0x0f, 0, 0xc0, 0, 0, 0x01, 0, 0, 0, 0, 0, 0, 0]);
            return self.named(number, 0x02, body);
        };
        let (unit, multiplier, exponent) = match self.kind {
            Kind::Rail { multiplier, exponent, .. } => (4, multiplier, exponent),
            Kind::Fan => (18, 60, 0),
            Kind::Temperature | Kind::Supply => (1, 1, 0),
        };
        // Ten bits with a sign.
        let [low, high] = multiplier.to_le_bytes();
        let nominal = if matches!(self.kind, Kind::Rail { .. }) { 200 } else { 100 };
        body.extend([0x7f, 0x68, self.kind.number(), 0x01]);
        // Events and comparisons that it knows, thresholds that can be read and set.
        body.extend([0x95, 0x7a, 0x95, 0x7a, 0x3f, 0x3f]);
        body.extend([0x00, unit, 0x00, 0x00, low, high << 6, 0, 0, 0, (exponent as u8) << 4]);
        body.extend([0x07, nominal, 0xff, 0x00, 0xff, 0x00]);
        body.extend([unr, uc, unc, lnr, lc, lnc, 2, 2, 0, 0, 0]);
        self.named(number, 0x01, body)
    }

    fn named(&self, number: u8, record_type: u8, mut body: Vec<u8>) -> Vec<u8> {
        // 0xc0: eight-bit text, with its length.
        body.push(0xc0 | self.name.len() as u8);
        body.extend(self.name.bytes());
        let mut record = vec![number, 0x00, 0x51, record_type, body.len() as u8];
        record.extend(body);
        record
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Bmc, BmcKind, SENSORS, SWITCH, commands, configuration, reading_problem, script};

    #[test]
    fn what_ipmi_sim_is_told() {
        let bmc = Bmc::new(BmcKind::Ipmi, 0x1f);
        let conf =
            configuration("web", &bmc, "10.77.0.1".parse().expect("an address"), Path::new("/s/chassis"));
        assert!(
            conf.contains("addr 10.77.0.1 6231\n") && conf.contains("serial kcs 127.0.0.1 6531 "),
            "{conf}"
        );
        assert!(conf.contains("sol \"tcp:127.0.0.1:6831\" 115200\n"), "{conf}");
        assert!(conf.contains("chassis_control \"'/s/chassis' 0x20\"\n"), "{conf}");
        let commands = commands(Path::new("/s/sensors"));
        // As they stood when the real ipmitool read 12.000 V, 6000 RPM and "Presence detected" from them.
        let rail = "main_sdr_add 0x20 0x01 0x00 0x51 0x01 0x2f 0x20 0x00 0x01 0x07 0x01 0x7f 0x68 0x02 0x01 0x95 0x7a 0x95 0x7a 0x3f 0x3f 0x00 0x04 0x00 0x00 0x06 0x00 0x00 0x00 0x00 0xe0 0x07 0xc8 0xff 0x00 0xff 0x00 0xdc 0xd2 0xcf 0xb4 0xbe 0xc1 0x02 0x02 0x00 0x00 0x00 0xc4 0x50 0x31 0x32 0x56\n\
                    sensor_add 0x20 0 1 2 0x01 poll 250 file \"/s/sensors/P12V\" mult=10 div=600\n\
                    sensor_set_threshold 0x20 0 1 settable 111111 220 210 207 180 190 193\n";
        assert!(commands.contains(rail), "{commands}");
        assert_eq!(commands.matches("sensor_add").count(), SENSORS.len());
        assert!(commands.ends_with("mc_enable 0x20\n"));
    }

    #[test]
    fn the_script_calls_the_lab_with_every_word_as_one() {
        let words = ["/opt/as say", "lab", "power", SWITCH, "it's"].map(str::to_owned);
        let path = Path::new;
        let text = script("web", path("/s/pid"), path("/s/boot"), path("/s/log"), &words);
        assert!(
            text.contains(r#"setsid -f '/opt/as say' 'lab' 'power' "$1" 'it'\''s' >> '/s/log'"#),
            "{text}"
        );
    }

    #[test]
    fn a_reading_that_no_sensor_has_is_refused() {
        for (name, value, refused) in [
            ("P12V", 11_280, false),
            ("P12V", 15_300, false),
            ("P12V", 15_301, true),
            ("P3V3", 4_300, true),
            ("FAN1", 0, false),
            ("CPU", 256, true),
            ("PSU1", 3, false),
            ("PSU1", 16, true),
            ("P24V", 1, true),
        ] {
            assert_eq!(reading_problem(name, value).is_some(), refused, "{name} {value}");
        }
    }
}
