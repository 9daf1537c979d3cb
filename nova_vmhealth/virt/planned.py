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

"""Which driver methods are operations that Nova plans, and their wrapper."""

import functools
import inspect

from oslo_log import log as logging

from nova_vmhealth.core import operations

LOG = logging.getLogger(__name__)

# Every method of LibvirtDriver that changes a domain or may, by the table that
# says what each explains. All of them exist under these names in Nova 31-34
# and take an argument called `instance`; whatever else they take is handed on
# untouched, so the signatures that changed in between do not matter here.
OPERATIONS = tuple(operations.OPERATIONS)


def _safely(tell, instance, operation, *outcome):
    try:
        tell(instance, operation, *outcome)
    except Exception:
        # A defect of ours must not fail what Nova does, nor hide its error.
        LOG.exception('Cannot take note of %s', operation, instance=instance)


def wrap(operation, method):
    """Make a driver method tell the monitor when it begins and ends.

    :param operation: the method's name
    :param method: LibvirtDriver's function
    :returns: a function with the same signature
    """
    signature = inspect.signature(method)
    position = list(signature.parameters).index('instance')

    @functools.wraps(method)
    def planned(self, *args, **kwargs):
        monitor = self.vmhealth_monitor
        if monitor is None:
            return method(self, *args, **kwargs)
        instance = kwargs['instance'] if 'instance' in kwargs \
            else args[position - 1]
        _safely(monitor.begin, instance, operation)
        succeeded = False
        try:
            result = method(self, *args, **kwargs)
            succeeded = True
            return result
        finally:
            _safely(monitor.end, instance, operation, succeeded)
    # For those who look with inspect.getfullargspec, which does not follow
    # functools.wraps: Nova's own tests do.
    planned.__signature__ = signature
    return planned


def planned_operations(driver_class):
    """Class decorator: wrap every planned operation of the base class."""
    for operation in OPERATIONS:
        setattr(driver_class, operation,
                wrap(operation, getattr(driver_class, operation)))
    return driver_class
