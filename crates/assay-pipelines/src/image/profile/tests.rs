//! Profiles as people write them.

use super::Profile;

#[test]
fn the_shortest_profile_reads() {
    Profile::from_toml("name = \"tiny\"\n[[machine.disk]]\nname = \"D\"\nbus = \"sata\"\nsize = \"1GiB\"\n")
        .expect("it reads");
}
