// A thermal zone and a power meter that read the table `OEM1`; see sensors.rs.
DefinitionBlock ("", "SSDT", 2, "ASSAY", "LABSENS", 0x00000001)
{
    Scope (\_SB)
    {
        DataTableRegion (LABR, "OEM1", "ASSAY", "LABVALUE")
        Field (LABR, DWordAcc, NoLock, Preserve)
        {
            Offset (0x34),
            TEMP, 32,
            Offset (0x3C),
            POWR, 32
        }
        Device (PWRM)
        {
            Name (_HID, "ACPI000D")
            Name (_UID, Zero)
            Name (_STR, Unicode ("Assay lab power supply"))
            Method (_STA) { Return (0x0F) }
            Name (_PMC, Package (0x0E)
            {
                One, Zero, Zero, 100000, 1000, 60000, 1000, 60000, Zero, Zero, Zero,
                "Sparrow PSU", "LAB-PSU-1", "ASSAY"
            })
            Method (_PMM) { Return (POWR) }
            Name (_GAI, 1000)
            Method (_PAI, 1) { Return (Zero) }
            Name (_GHL, Zero)
            Name (_PMD, Package (0x00) {})
        }
    }
    Scope (\_TZ)
    {
        ThermalZone (TZ00)
        {
            Method (_TMP) { Return (\_SB.TEMP) }
            Method (_CRT) { Return (4732) }
            Name (_TZP, 10)
        }
    }
}
