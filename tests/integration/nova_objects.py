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


"""Nova's objects for a driver that runs without nova-conductor.

Everything that would be a call to the conductor is answered by
:class:`StandInConductor`, which also counts the calls: a test can show that a
path makes none.
"""

import os
import uuid

import nova.conf
from nova import config
from nova import context as nova_context
from nova import exception
from nova.network import model
from nova import objects
from nova.objects import base
from nova.objects import fields
from oslo_log import log as logging

PROJECT_ID = 'a1b2c3d4e5f60718293a4b5c6d7e8f90'
USER_ID = '0f1e2d3c4b5a69788796a5b4c3d2e1f0'
_TEST_DOMAIN = """\
<domain type='test'><name>%s</name><uuid>%s</uuid><memory>1024</memory>
<os><type>hvm</type></os></domain>"""


class StandInConductor:
    """Answers remote calls of Nova's objects in this process.

    :ivar instances: what InstanceList finds, by uuid
    :ivar calls: ``Object.method`` of every call so far
    :ivar service: the compute service's record, as a save has left it
    """

    def __init__(self):
        self.instances = {}
        self.calls = []
        self.service = {'disabled': False, 'disabled_reason': None,
                        'forced_down': False}

    def object_class_action_versions(self, context, objname, objmethod,
                                     object_versions, args, kwargs):
        self.calls.append('%s.%s' % (objname, objmethod))
        if objname == 'InstanceList':
            return objects.InstanceList(
                objects=list(self.instances.values()))
        if objname == 'Instance':
            return self._instance(args[0])
        if objname == 'Service':
            service = objects.Service(context, host=args[0], **self.service)
            service.obj_reset_changes()
            return service
        if objname.endswith('List'):
            return getattr(objects, objname)(objects=[])
        raise exception.ComputeHostNotFound(host='%s.%s' % (objname, args))

    def _instance(self, uuid):
        try:
            return self.instances[uuid]
        except KeyError:
            raise exception.InstanceNotFound(instance_id=uuid) from None

    def object_action(self, context, objinst, objmethod, args, kwargs):
        self.calls.append('%s.%s' % (objinst.obj_name(), objmethod))
        if isinstance(objinst, objects.Service) and objmethod == 'save':
            self.service.update(objinst.obj_get_changes())
        # a save: nothing is updated, and nothing is left to be saved
        return {'obj_what_changed': set()}, None

    def install(self):
        base.NovaObject.indirection_api = self


def context():
    return nova_context.RequestContext(
        user_id=USER_ID, project_id=PROJECT_ID, is_admin=True)


def _flavor(extra_specs, memory_mb):
    return objects.Flavor(
        id=1, flavorid='1', name='integration', memory_mb=memory_mb, vcpus=1,
        root_gb=1, ephemeral_gb=0, swap=0, rxtx_factor=1.0, vcpu_weight=0,
        disabled=False, is_public=True, extra_specs=extra_specs, projects=[])


def instance(host, number, extra_specs, image_properties, memory_mb):
    """One instance, whole enough for every method of the driver.

    :param number: the instance's id, hence its name in libvirt
    :param image_properties: strings; as in Nova they are found again in
        system_metadata under ``image_``
    """
    result = objects.Instance(context())
    for name, field in objects.Instance.fields.items():
        if field.nullable:
            setattr(result, name, None)
        elif field.default is not fields.UnspecifiedDefault:
            setattr(result, name, field.default)
    own_uuid = str(uuid.uuid4())
    flavor = _flavor(extra_specs, memory_mb)
    values = {
        'id': number, 'uuid': own_uuid, 'user_id': USER_ID,
        'project_id': PROJECT_ID, 'host': host, 'node': host,
        'hostname': 'guest', 'display_name': 'guest-%d' % number,
        'availability_zone': 'nova', 'vm_state': 'active', 'power_state': 1,
        'flavor': flavor, 'instance_type_id': 1, 'image_ref': _image(),
        'kernel_id': _image(), 'ramdisk_id': _image(), 'root_gb': 1,
        'ephemeral_gb': 0, 'memory_mb': memory_mb, 'vcpus': 1,
        'root_device_name': '/dev/vda', 'config_drive': '', 'deleted': False,
        'metadata': {}, 'os_type': None, 'cleaned': False,
        'system_metadata': {'image_' + name: value for name, value
                            in image_properties.items()},
        'tags': objects.TagList(objects=[]),
        'keypairs': objects.KeyPairList(objects=[]),
        'pci_devices': objects.PciDeviceList(objects=[]),
        'pci_requests': objects.InstancePCIRequests(
            instance_uuid=own_uuid, requests=[]),
        'resources': objects.ResourceList(objects=[]),
        'security_groups': objects.SecurityGroupList(objects=[]),
        'services': objects.ServiceList(objects=[]),
        'info_cache': objects.InstanceInfoCache(
            network_info=model.NetworkInfo([])),
        'ec2_ids': objects.EC2Ids(instance_id='i-00000001',
                                  ami_id='ami-00000001'),
    }
    for name, value in values.items():
        setattr(result, name, value)
    result.obj_reset_changes(recursive=True)
    return result


def _image():
    return str(uuid.uuid4())


def image_meta(instance, command_line, image_properties):
    """The image as nova-compute hands it to spawn."""
    properties = {'os_command_line': command_line,
                  'kernel_id': instance.kernel_id,
                  'ramdisk_id': instance.ramdisk_id}
    properties.update(image_properties)
    return objects.ImageMeta.from_dict({
        'id': instance.image_ref, 'name': 'guest', 'status': 'active',
        'disk_format': 'ami', 'container_format': 'ami', 'size': 1 << 20,
        'min_ram': 0, 'min_disk': 0, 'properties': properties})


def begin(config_file):
    """Set this process up as nova-compute does.

    :returns: a file for its answers: stdout, which carries nothing else
    """
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    config.parse_args(['nova-compute', '--config-file', config_file])
    logging.setup(nova.conf.CONF, 'nova')
    objects.register_all()
    return answers


def domain_xml(instance):
    """The instance's domain for libvirt's own driver for tests."""
    return _TEST_DOMAIN % (instance.name, instance.uuid)
