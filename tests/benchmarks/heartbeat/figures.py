# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.


"""Figures, and their limits beside them."""

import math


def percentile(values, percent):
    """Return the least of the values that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(milliseconds):
    """Describe a distribution in one line."""
    if not milliseconds:
        return 'none'
    return 'p50 %.2f  p99 %.2f  max %.2f ms of %d' % (
        percentile(milliseconds, 50), percentile(milliseconds, 99),
        max(milliseconds), len(milliseconds))


def show(name, value):
    """Print a figure that has no limit."""
    print('    %-38s %s' % (name, value), flush=True)


def judge(name, value, limit, unit=''):
    """Print a figure, its limit and whether it keeps to it."""
    shown = '%d' if isinstance(value, int) else '%.2f'
    show(name, '%9s %-4s limit %3d %-4s %s' % (
        shown % value, unit, limit, unit,
        'met' if value <= limit else 'NOT MET'))
