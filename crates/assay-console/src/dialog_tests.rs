use super::*;

fn asks(screen: &str) -> String {
    match windows(&screen.lines().collect::<Vec<_>>()) {
        Windows::Asks(asks) => asks,
        other => panic!("{other:?}"),
    }
}

/// Debian's installer on a network without a name server, narrowed; the frame is drawn by its framebuffer terminal.
const NAME_SERVERS: &str = "
  ┌───────────────────────────┤ [!!] Configure the network ├───────────────────────────┐
  │                                                                                    │▒
  │ The name servers are used to look up host names on the network. Please enter the   │▒
  │ IP addresses (not host names) of up to 3 name servers, separated by spaces. Do not │▒
  │ use commas. The first name server in the list will be the first to be queried. If  │▒
  │ you don't want to use any name server, just leave this field blank.                │▒
  │                                                                                    │▒
  │ Name server addresses:                                                             │▒
  │                                                                                    │▒
  │ __________________________________________________________________________________ │▒
  │                                                                                    │▒
  │     <Go Back>                                                       <Continue>     │▒
  │                                                                                    │▒
  └────────────────────────────────────────────────────────────────────────────────────┘▒
   ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒

<Tab> moves; <Space> selects; <Enter> activates buttons";

#[test]
fn the_title_the_beginning_of_the_text_and_the_question() {
    assert_eq!(
        asks(NAME_SERVERS),
        "[!!] Configure the network: The name servers are used to look up host names on the network. Please enter the IP \
         addresses (not host names) of up… Name server addresses: <Go Back> <Continue>"
    );
}

#[test]
fn a_short_window_is_told_whole() {
    let whiptail = "
      +----+
   ┌──────┤ Erase ├──────┐
   │                     │
   │ Write the changes   │
   │ to disks?           │
   │                     │
   │   <Yes>    <No>     │
   │                     │
   └─────────────────────┘";
    assert_eq!(asks(whiptail), "Erase: Write the changes to disks? <Yes> <No>");
    let dialog = "
   ┌───────FAI - Fully Automatic Installation──────┐
   │ Select your FAI profile                       │
   │ ┌───────────────────────────────────────────┐ │
   │ │ Simple  My first FAI installation         │ │
   │ │ Xfce    Xfce desktop, LVM partitioning    │ │
   │ └───────────────────────────────────────────┘ │
   ├───────────────────────────────────────────────┤
   │      <  OK  >     <Cancel>      < Help >      │
   └───────────────────────────────────────────────┘";
    assert_eq!(
        asks(dialog),
        "FAI - Fully Automatic Installation: Select your FAI profile Simple My first FAI installation Xfce Xfce \
         desktop, LVM partitioning < OK > <Cancel> < Help >"
    );
}

#[test]
fn the_window_in_front_is_the_one_that_asks() {
    let stacked = "
┌──────────────┤ Partition disks ├──────────────┐
│                                               │
│   ┌─────────────┤ Error ├─────────────┐       │
│   │                                   │       │
│   │ No root file system is defined.   │       │
│   │                                   │       │
│   │             <Continue>            │       │
│   └───────────────────────────────────┘       │
│     <Go Back>                                 │
└───────────────────────────────────────────────┘";
    assert_eq!(asks(stacked), "Error: No root file system is defined. <Continue>");
}

#[test]
fn work_in_a_window_is_no_question() {
    let progress = "
   ┌────┤ Detecting hardware ├────┐
   │                              │
   │ ████████      45%            │
   │                              │
   └──────────────────────────────┘

<Tab> moves; <Space> selects; <Enter> activates buttons";
    assert_eq!(windows(&progress.lines().collect::<Vec<_>>()), Windows::Silent);
    assert_eq!(windows(&["Setting up <yes> (1.2) ...", "┌──┐ never closed"]), Windows::None);
}

#[test]
fn any_rows_at_all() {
    for rows in [
        &["┌┐", "└┘"][..],
        &["┌", "└"],
        &["┌┌┐┐", "└└┘┘"],
        &["┌──┐", "└──┘ <OK>"],
        &["┐┌", "<OK>", "┘└"],
        &["┌─┤ é ├─┐", "│<OK>", "└───────┘"],
        &["┌──────┐", "│ <OK> │", "└──────┘"],
    ] {
        windows(rows);
    }
    let corners = ["┌┐".repeat(500), "└┘".repeat(500)].concat();
    assert_eq!(windows(&vec![corners.as_str(); 500]), Windows::None, "beside each other, not below");
    let (above, below) = ("┌┐".repeat(500), "└┘".repeat(500));
    let mut rows = vec![above.as_str(); 499];
    rows.push(&below);
    assert_eq!(windows(&rows), Windows::Silent, "and soon told");
    let long = "x".repeat(5000);
    let told = told(&long, &[long.clone(), long.clone()], "<OK>");
    assert!(told.chars().count() < 5100, "a title is never longer than a row of the screen");
}
