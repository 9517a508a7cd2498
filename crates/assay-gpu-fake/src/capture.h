/*
 * What a machine's GPUs answer, read from the file `capture` beside the library: a line each, `key value`.
 *
 * Keys of one GPU begin with its number (`0.temp 45`). A key that is not there is an answer that the board does not
 * have; `!15` is the error 15. `a;b` is `a` until a kernel was launched on any GPU, `b` from then on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <dlfcn.h>

static void beside(char *path, size_t size, const char *name) {
    Dl_info info;
    path[0] = 0;
    if (!dladdr((void *)beside, &info) || !info.dli_fname) return;
    snprintf(path, size, "%s", info.dli_fname);
    char *slash = strrchr(path, '/');
    if (slash) snprintf(slash + 1, size - (size_t)(slash + 1 - path), "%s", name);
}

/* 1 and the text, or 0. */
static int told(int gpu, const char *key, char *out, size_t size) {
    char path[4096], busy[4096], full[64], line[512];
    beside(path, sizeof path, "capture");
    beside(busy, sizeof busy, "busy");
    if (gpu < 0) snprintf(full, sizeof full, "%s ", key);
    else snprintf(full, sizeof full, "%d.%s ", gpu, key);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    int found = 0;
    while (!found && fgets(line, sizeof line, file)) {
        if (strncmp(line, full, strlen(full)) != 0) continue;
        char *value = line + strlen(full);
        value[strcspn(value, "\n")] = 0;
        char *later = strchr(value, ';');
        if (later) {
            *later = 0;
            if (access(busy, F_OK) == 0) value = later + 1;
        }
        snprintf(out, size, "%s", value);
        found = 1;
    }
    fclose(file);
    return found;
}

/* 0 and the number; an error's number where one is told; `absent` where nothing is. */
static int number(int gpu, const char *key, unsigned long long *out, int absent) {
    char text[256];
    if (!told(gpu, key, text, sizeof text)) return absent;
    if (text[0] == '!') return atoi(text + 1);
    *out = strtoull(text, NULL, 0);
    return 0;
}

__attribute__((unused)) static unsigned long long number_or(int gpu, const char *key, unsigned long long otherwise) {
    unsigned long long value = otherwise;
    return number(gpu, key, &value, 0) == 0 ? value : otherwise;
}
