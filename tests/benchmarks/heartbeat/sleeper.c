/*
 * Licensed under the Apache License, Version 2.0 (the "License"); you may
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

/*
 * The machine's own lateness: sleeps to each 10 ms slot and does nothing.
 *
 * Says "ready", and at the end of stdin prints a JSON list of how many
 * milliseconds it woke too late, by slot.
 */

#include "bench.h"

#include <poll.h>

#define SLOT (SECOND / 100)
#define MOST 100000

static double late[MOST];

int main(void)
{
    struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
    int64_t moment = now_ns();
    int count = 0;

    printf("ready\n");
    fflush(stdout);
    while (count < MOST && poll(&input, 1, 0) == 0) {
        struct timespec at;

        moment += SLOT;
        at.tv_sec = moment / SECOND;
        at.tv_nsec = moment % SECOND;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        late[count++] = (now_ns() - moment) / 1e6;
    }
    printf("[");
    for (int i = 0; i < count; i++)
        printf("%s%.3f", i ? "," : "", late[i]);
    printf("]\n");
    return 0;
}
