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

"""Options of nova.conf, group [vmhealth]."""

from nova_vmhealth.conf.host import HOST_CAUSES
from nova_vmhealth.conf.opts import check_notifications
from nova_vmhealth.conf.opts import GROUP
from nova_vmhealth.conf.opts import limits
from nova_vmhealth.conf.opts import register_opts
from nova_vmhealth.conf.opts import validate

__all__ = ('GROUP', 'HOST_CAUSES', 'check_notifications', 'limits',
           'register_opts', 'validate')
