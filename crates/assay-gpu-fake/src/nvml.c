/*
 * A management library without GPUs: it answers from a capture. Only what the probe asks is here; anything else is a
 * symbol that cannot be found, as in an old driver.
 */
#define _GNU_SOURCE
#include "capture.h"

enum { NOT_SUPPORTED = 3, NOT_FOUND = 6 };

typedef void *Device;
typedef unsigned long long u64;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned version; u64 total, reserved, free, used; } Memory;
typedef struct {
    unsigned field, scope; long long at, latency; unsigned type; int status; union { u64 wide; unsigned narrow; } value;
} Field;

static int of(Device device) { return (int)(long)device - 1; }

static int text(int gpu, const char *key, char *out, unsigned size) {
    char value[256];
    if (!told(gpu, key, value, sizeof value)) return NOT_SUPPORTED;
    if (value[0] == '!') return atoi(value + 1);
    strncpy(out, value, size - 1);
    out[size - 1] = 0;
    return 0;
}

static int narrow(Device device, const char *key, unsigned *out) {
    u64 value = 0;
    int status = number(of(device), key, &value, NOT_SUPPORTED);
    if (status == 0) *out = (unsigned)value;
    return status;
}

int nvmlInit_v2(void) { u64 none; return number(-1, "init", &none, 0); }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { return text(-1, "driver", out, size); }
int nvmlDeviceGetCount_v2(unsigned *count) {
    u64 value = 0;
    int status = number(-1, "count", &value, NOT_SUPPORTED);
    *count = (unsigned)value;
    return status;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    u64 none = 0;
    int status = number((int)index, "handle", &none, 0);
    *device = (Device)(long)(index + 1);
    return status;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, Device *device) {
    char known[64];
    for (int gpu = 0; gpu < 16; gpu++) {
        if (!told(gpu, "bus", known, sizeof known)) continue;
        size_t more = strlen(known) > strlen(bus) ? strlen(known) - strlen(bus) : 0;
        if (strcasecmp(known + more, bus) == 0) return nvmlDeviceGetHandleByIndex_v2((unsigned)gpu, device);
    }
    return NOT_FOUND;
}
int nvmlDeviceGetPciInfo_v3(Device device, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    return text(of(device), "bus", pci->bus_id, sizeof pci->bus_id);
}
int nvmlDeviceGetName(Device device, char *out, unsigned size) { return text(of(device), "name", out, size); }
int nvmlDeviceGetUUID(Device device, char *out, unsigned size) { return text(of(device), "uuid", out, size); }
int nvmlDeviceGetSerial(Device device, char *out, unsigned size) { return text(of(device), "serial", out, size); }
int nvmlDeviceGetVbiosVersion(Device device, char *out, unsigned size) { return text(of(device), "vbios", out, size); }
int nvmlDeviceGetNumGpuCores(Device device, unsigned *out) { return narrow(device, "cores", out); }
int nvmlDeviceGetMemoryBusWidth(Device device, unsigned *out) { return narrow(device, "bits", out); }
int nvmlDeviceGetMaxClockInfo(Device device, unsigned kind, unsigned *out) {
    return narrow(device, kind == 1 ? "smmax" : "memmax", out);
}
int nvmlDeviceGetClockInfo(Device device, unsigned kind, unsigned *out) { (void)kind; return narrow(device, "sm", out); }
int nvmlDeviceGetMemoryInfo_v2(Device device, Memory *memory) {
    memory->reserved = memory->used = 0;
    int status = number(of(device), "memory", &memory->total, NOT_SUPPORTED);
    memory->free = memory->total;
    return status;
}
int nvmlDeviceGetEccMode(Device device, unsigned *now, unsigned *later) {
    int status = narrow(device, "ecc", now);
    *later = *now;
    return status;
}
int nvmlDeviceGetTotalEccErrors(Device device, unsigned kind, unsigned span, u64 *out) {
    static const char *keys[2][2] = {{"vc", "ac"}, {"vu", "au"}};
    return number(of(device), keys[kind & 1][span & 1], out, NOT_SUPPORTED);
}
int nvmlDeviceGetRetiredPages(Device device, unsigned cause, unsigned *count, u64 *addresses) {
    (void)addresses;
    int status = narrow(device, "retired", count);
    if (status == 0 && cause == 0) *count = 0;
    return status;
}
int nvmlDeviceGetRetiredPages_v2(Device device, unsigned cause, unsigned *count, u64 *addresses, u64 *times) {
    int status = nvmlDeviceGetRetiredPages(device, cause, count, addresses);
    for (unsigned page = 0; status == 0 && page < *count; page++) addresses[page] = times[page] = page;
    return status;
}
int nvmlDeviceGetRetiredPagesPendingStatus(Device device, unsigned *out) { return narrow(device, "pending", out); }
int nvmlDeviceGetFieldValues(Device device, int count, Field *fields) {
    static const char *keys[4] = {"rc", "ru", "rp", "rf"};
    for (int slot = 0; slot < count; slot++) {
        unsigned which = fields[slot].field - 142;
        fields[slot].type = 1;
        fields[slot].value.wide = 0;
        fields[slot].status =
            which < 4 ? narrow(device, keys[which], &fields[slot].value.narrow) : NOT_SUPPORTED;
    }
    return 0;
}
int nvmlDeviceGetTemperature(Device device, unsigned sensor, unsigned *out) {
    (void)sensor;
    return narrow(device, "temp", out);
}
int nvmlDeviceGetTemperatureThreshold(Device device, unsigned kind, unsigned *out) {
    return narrow(device, kind == 0 ? "shutdown" : "slowdown", out);
}
int nvmlDeviceGetPowerUsage(Device device, unsigned *out) { return narrow(device, "power", out); }
int nvmlDeviceGetEnforcedPowerLimit(Device device, unsigned *out) { return narrow(device, "limit", out); }
int nvmlDeviceGetCurrPcieLinkGeneration(Device device, unsigned *out) { return narrow(device, "gen", out); }
int nvmlDeviceGetCurrPcieLinkWidth(Device device, unsigned *out) { return narrow(device, "width", out); }
int nvmlDeviceGetMaxPcieLinkGeneration(Device device, unsigned *out) { return narrow(device, "genmax", out); }
int nvmlDeviceGetMaxPcieLinkWidth(Device device, unsigned *out) { return narrow(device, "widthmax", out); }
int nvmlDeviceGetPcieReplayCounter(Device device, unsigned *out) { return narrow(device, "replays", out); }
int nvmlDeviceGetPersistenceMode(Device device, unsigned *out) { return narrow(device, "persistence", out); }
int nvmlDeviceGetCurrentClocksThrottleReasons(Device device, u64 *out) {
    return number(of(device), "throttle", out, NOT_SUPPORTED);
}
