/* Licensed under the Apache License, Version 2.0 (the "License"); you may
 * not use this file except in compliance with the License. You may obtain
 * a copy of the License at
 *
 *      http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
 * WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
 * License for the specific language governing permissions and limitations
 * under the License.
 */

/* A guest agent for small guests: answers challenges, runs no audits.
 *
 *     cc -std=c99 -O2 -static -o vmhealth-guest vmhealth-guest.c
 *     vmhealth-guest [PORT]
 *
 * C99 and POSIX. It talks version 1 of the heartbeat protocol (JSON lines)
 * over the virtio-serial port org.openstack.vmhealth.0, or the named device.
 */

#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHANNEL "org.openstack.vmhealth.0"
#define PORTS "/sys/class/virtio-ports"
#define MAX_LINE 1024           /* of the host, without the newline */
#define MAX_NONCE 64
#define MAX_DIGITS 18           /* of a sequence: fits a long long */
#define OUT_SIZE 2048           /* a dozen answers */

struct slice {                  /* a part of the line, as it stands there */
    const char *start;
    size_t length;
};

static struct {
    int fd;
    char line[MAX_LINE + 1];
    size_t used;                /* more than MAX_LINE: the line is too long */
    char out[OUT_SIZE];
    size_t unsent;
    int introduced;
    long long last_sequence;
} port;

static char boot_id[40];
static volatile sig_atomic_t stopping;

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

/* Reads the first line of a small file, '' where there is none. */
static void read_line(const char *path, char *text, int size)
{
    FILE *file = fopen(path, "r");

    text[file && fgets(text, size, file) ? strcspn(text, "\n") : 0] = '\0';
    if (file)
        fclose(file);
}

/* Finds our port by its name: a small guest may have no udev for links. */
static const char *find_port(char *path, size_t size)
{
    DIR *ports = opendir(PORTS);
    struct dirent *entry;
    char name[sizeof CHANNEL + 1] = "";

    while (ports && strcmp(name, CHANNEL) && (entry = readdir(ports))) {
        snprintf(path, size, PORTS "/%.32s/name", entry->d_name);
        read_line(path, name, sizeof name);
        snprintf(path, size, "/dev/%.32s", entry->d_name);
    }
    if (ports)
        closedir(ports);
    return strcmp(name, CHANNEL) ? "" : path;
}

/* A line that finds no room is dropped: the host does not read, and will want
 * the answer to a later challenge when it does. */
static void say(const char *text)
{
    size_t length = strlen(text);

    if (length <= sizeof port.out - port.unsent) {
        memcpy(port.out + port.unsent, text, length);
        port.unsent += length;
    }
}

static void say_init(void)
{
    char text[192];

    snprintf(text, sizeof text, "{\"type\":\"init\",\"version\":1,"
        "\"agent\":\"vmhealth-guest-c/1.0\",\"boot_id\":\"%s\"}\n", boot_id);
    say(text);
    port.introduced = 1;
    port.last_sequence = -1;
}

/* Writes what the port takes; returns 0 when the port is broken. */
static int flush(void)
{
    ssize_t written;

    while (port.unsent) {
        written = write(port.fd, port.out, port.unsent);
        if (written <= 0)
            return !written || errno == EAGAIN || errno == EINTR;
        port.unsent -= (size_t)written;
        memmove(port.out, port.out + written, port.unsent);
    }
    return 1;
}

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t\r");
}

/* From an opening quote to behind the closing one; NULL: there is none. */
static const char *skip_string(const char *at)
{
    for (at++; *at && *at != '"'; at++)
        if (*at == '\\' && !*++at)
            return NULL;
    return *at ? at + 1 : NULL;
}

/* Behind any value; loose about objects and arrays. */
static const char *skip_value(const char *at)
{
    int depth = 0;

    if (*at != '"' && *at != '{' && *at != '[')
        return at + strcspn(at, ",}] \t\r");
    do {
        if (*at == '"') {
            at = skip_string(at);
        } else {
            depth += *at == '{' || *at == '[';
            depth -= *at == '}' || *at == ']';
            at++;
        }
    } while (at && *at && depth > 0);
    return depth ? NULL : at;
}

static int is(struct slice part, const char *text)
{
    return part.length == strlen(text)
        && !memcmp(part.start, text, part.length);
}

/* Takes three values from an object as they stand; 0 if it is none. */
static int parse(const char *at, struct slice *type, struct slice *sequence,
                 struct slice *nonce)
{
    struct slice key, value;

    if (*(at = skip_space(at)) != '{')
        return 0;
    do {
        key.start = skip_space(at + 1);
        if (*key.start != '"' || !(at = skip_string(key.start)))
            return 0;
        key.length = (size_t)(at - key.start);
        if (*(at = skip_space(at)) != ':')
            return 0;
        value.start = skip_space(at + 1);
        if (!(at = skip_value(value.start)))
            return 0;
        value.length = (size_t)(at - value.start);
        if (is(key, "\"type\""))
            *type = value;
        else if (is(key, "\"sequence\""))
            *sequence = value;
        else if (is(key, "\"nonce\""))
            *nonce = value;
    } while (*(at = skip_space(at)) == ',');
    return *at == '}';
}

/* Whether it is a string of a nonce's length that needs no escapes. */
static int is_nonce(struct slice text)
{
    const char *at = text.start, *end = at + text.length;

    while (at < end && *at >= ' ' && *at <= '~' && *at != '\\')
        at++;
    return at == end && *text.start == '"'
        && text.length >= 3 && text.length <= MAX_NONCE + 2;
}

static void take_line(const char *line)
{
    struct slice type = {"", 0}, sequence = type, nonce = type;
    char text[192];

    if (!parse(line, &type, &sequence, &nonce)
        || !is(type, "\"challenge\"") || !is_nonce(nonce)
        || sequence.length < 1 || sequence.length > MAX_DIGITS
        || strspn(sequence.start, "0123456789") != sequence.length)
        return;
    snprintf(text, sizeof text,
        "{\"type\":\"challenge_response\",\"sequence\":%.*s,\"nonce\":%.*s}\n",
        (int)sequence.length, sequence.start, (int)nonce.length, nonce.start);
    say(text);
    /* A host that counts anew has forgotten who we are. */
    if (strtoll(sequence.start, NULL, 10) <= port.last_sequence)
        say_init();
    port.last_sequence = strtoll(sequence.start, NULL, 10);
}

static void take(const char *data, ssize_t size)
{
    for (; size > 0; size--, data++) {
        if (*data != '\n') {
            if (port.used <= MAX_LINE)
                port.line[port.used++] = *data;
            continue;
        }
        if (port.used <= MAX_LINE) {
            port.line[port.used] = '\0';
            take_line(port.line);
        }
        port.used = 0;
    }
}

/* Serves the open port until it is broken or we are told to stop. */
static void serve(void)
{
    char data[1024];
    struct pollfd wanted;
    ssize_t size;

    while (!stopping) {
        size = read(port.fd, data, sizeof data);
        if (size == 0) {        /* no host client now; one may come */
            port.used = port.unsent = 0;
            port.introduced = 0;
            poll(NULL, 0, 250); /* of the fd it would end at once */
            continue;
        }
        if (size < 0 && errno != EAGAIN && errno != EINTR)
            return;
        if (!port.introduced)
            say_init();
        take(data, size);
        if (!flush())
            return;
        wanted.fd = port.fd;
        wanted.events = port.unsent ? POLLIN | POLLOUT : POLLIN;
        if (size < 0)
            poll(&wanted, 1, 1000);     /* a signal may come just before */
    }
    say("{\"type\":\"exit\",\"reason\":\"terminated\"}\n");
    for (size = 0; size < 50 && flush() && port.unsent; size++)
        poll(NULL, 0, 10);
}

int main(int count, char **arguments)
{
    struct sigaction action = {0};
    char path[96];

    action.sa_handler = stop;
    sigaction(SIGTERM, &action, NULL);
    read_line("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id);
    for (; !stopping; poll(NULL, 0, stopping ? 0 : 1000)) {
        memset(&port, 0, sizeof port);
        port.fd = open(
            count > 1 ? arguments[1] : find_port(path, sizeof path),
            O_RDWR | O_NONBLOCK | O_NOCTTY);
        if (port.fd >= 0) {
            serve();
            close(port.fd);
        }
    }
    return 0;
}
