import type { ClusterNode } from '../../model/index.ts'
import { Field } from './field.ts'

/** A core/v1 Node; throws `ObjectParseError`. */
export function parseNode(value: unknown): ClusterNode {
  const object = new Field(value)
  const single = object.at('spec', 'podCIDR').text()
  const listed = object
    .at('spec', 'podCIDRs')
    .items()
    .map((item) => item.text())
  return {
    name: object.at('metadata', 'name').dnsName(),
    labels: object.at('metadata', 'labels').textMap(),
    internalIPs: object
      .at('status', 'addresses')
      .items()
      .filter((address) => address.at('type').text() === 'InternalIP')
      .map((address) => address.at('address').ip()),
    podCIDRs: [...new Set([...(single === '' ? [] : [single]), ...listed])],
  }
}
