import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, suite, test } from 'node:test'
import { parseAllDocuments } from 'yaml'
import { ConfigError, parseConfig, type Role } from '../config/index.ts'
import type { CommandContext, CommandInput } from './index.ts'
import * as manifests from './manifests.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgemesh-manifests-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const needed = { server: 'mesh.example.org', image: 'registry.example.org/edgemesh:1.0' }

interface Printed {
  readonly text: string
  readonly notices: string
  readonly objects: readonly KubeObject[]
  /** The object of a kind; there must be one. */
  get(kind: string): KubeObject
}

interface KubeObject {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
  readonly data?: Readonly<Record<string, string>>
  readonly rules?: readonly object[]
  readonly subjects?: readonly object[]
  readonly spec?: { readonly template: { readonly metadata: { readonly annotations: object }; readonly spec: PodSpec } }
}

interface PodSpec {
  readonly containers: readonly { readonly image: string; readonly ports: readonly object[] }[]
}

async function print(options: CommandInput['options']): Promise<Printed> {
  let [text, notices] = ['', '']
  const context: CommandContext = {
    out: (more) => {
      text += more
    },
    err: (more) => {
      notices += more
    },
    env: {},
    signal: new AbortController().signal,
    build: { version: '0', commit: '0' },
  }
  assert.equal(await manifests.run({ arguments: [], options }, context), 0)
  const objects = parseAllDocuments(text).map((document): KubeObject => document.toJS())
  const get = (kind: string) => {
    const [object, ...others] = objects.filter((candidate) => candidate.kind === kind)
    assert.ok(object !== undefined && others.length === 0, `${kind}: ${objects.map((each) => each.kind).join()}`)
    return object
  }
  return { text, notices, objects, get }
}

const pskOf = (printed: Printed) => Buffer.from(printed.get('Secret').data?.['psk'] ?? '', 'base64').toString()

function configOf<R extends Role>(printed: Printed, role: R) {
  const file = `edgemesh-${role}.yaml`
  const text = printed.objects.find(({ data }) => data?.[file] !== undefined)?.data?.[file]
  assert.ok(text)
  return parseConfig(role, text, file, { NODE_NAME: 'edge-a1' })
}

suite('edgemesh manifests', () => {
  test('prints the objects of a role, and those of all roles when none is named', async () => {
    const kindsOf = async (role?: string) =>
      (await print({ ...needed, ...(role !== undefined && { role }) })).objects.map(({ kind }) => kind).join(' ')
    const rights = 'ServiceAccount ClusterRole ClusterRoleBinding'
    const server = 'ServiceAccount ConfigMap Deployment'
    assert.equal(await kindsOf('agent'), `Namespace Secret ${rights} ConfigMap DaemonSet`)
    assert.equal(await kindsOf('server'), `Namespace Secret ${server}`)
    assert.equal(await kindsOf(), `Namespace Secret ${server} ${rights} ConfigMap DaemonSet`)
    assert.equal(await kindsOf('all'), await kindsOf())
    assert.equal(await kindsOf('gateway'), `Namespace Secret ${rights} ConfigMap Deployment`)
    assert.equal(await kindsOf('crds'), Array(3).fill('CustomResourceDefinition').join(' '))
  })

  test('needs no option for the Istio kinds', async () => {
    const { objects, notices } = await print({ role: 'crds' })
    assert.deepEqual(
      objects.map(({ metadata }) => metadata.name),
      ['destinationrules', 'gateways', 'virtualservices'].map((plural) => `${plural}.networking.istio.io`),
    )
    assert.equal(notices, '')
  })

  test('lets the gateway read the named Secrets and no other, in their namespaces', async () => {
    const gatewaySecrets = 'shop/web-tls, shop/api-tls,blog/tls'
    const printed = await print({ ...needed, role: 'gateway', gatewaySecrets })
    const roles = printed.objects.filter(({ kind }) => kind === 'Role')
    assert.deepEqual(
      roles.map(({ metadata, rules }) => [metadata.namespace, rules]),
      [
        ['blog', [{ apiGroups: [''], resources: ['secrets'], resourceNames: ['tls'], verbs: ['list', 'watch'] }]],
        [
          'shop',
          [
            {
              apiGroups: [''],
              resources: ['secrets'],
              resourceNames: ['web-tls', 'api-tls'],
              verbs: ['list', 'watch'],
            },
          ],
        ],
      ],
    )
    const bindings = printed.objects.filter(({ kind }) => kind === 'RoleBinding')
    assert.deepEqual(
      bindings.map(({ metadata, subjects }) => [metadata.namespace, subjects]),
      ['blog', 'shop'].map((namespace) => [
        namespace,
        [{ kind: 'ServiceAccount', name: 'edgemesh-gateway', namespace: 'kubeedge' }],
      ]),
    )
    const without = await print({ ...needed, role: 'gateway' })
    assert.ok(!JSON.stringify(without.objects).includes('"secrets"'))
    assert.match(without.notices, /kubectl label node NODE edgemesh\.kubeedge\.io\/gateway=/)
    const { config, notices } = configOf(without, 'gateway')
    assert.deepEqual(notices, [])
    assert.deepEqual([config.nodeName, config.modules.edgeTunnel.servers], ['edge-a1', ['mesh.example.org']])
  })

  test('puts every namespaced object into the namespace, and binds the account there', async () => {
    const printed = await print({ ...needed, namespace: 'mesh-2' })
    for (const { kind, metadata } of printed.objects) {
      const isGlobal = ['Namespace', 'ClusterRole', 'ClusterRoleBinding'].includes(kind)
      assert.equal(metadata.namespace, isGlobal ? undefined : 'mesh-2', kind)
    }
    assert.equal(printed.get('Namespace').metadata.name, 'mesh-2')
    assert.match(JSON.stringify(printed.get('ClusterRoleBinding')), /"namespace":"mesh-2"/)
    assert.match(printed.notices, /kubectl -n mesh-2 get secret/)
  })

  test('writes configurations in which every key has an effect, with the given servers', async () => {
    const printed = await print({ ...needed, server: 'mesh.example.org, 192.0.2.7:4001 ' })
    const agent = configOf(printed, 'agent')
    const server = configOf(printed, 'server')
    assert.deepEqual([agent.notices, server.notices], [[], []])
    assert.deepEqual(agent.config.modules.edgeTunnel.servers, ['mesh.example.org', '192.0.2.7:4001'])
    assert.deepEqual(server.config.modules.edgeTunnel.advertiseAddress, ['mesh.example.org'])
    assert.equal(agent.config.nodeName, 'edge-a1')
    assert.equal(server.config.nodeName, 'edgemesh-server')
  })

  test('lets the server listen where the agents look for it', async () => {
    const id = '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp'
    for (const [server, host, port] of [
      ['mesh.example.org', 'mesh.example.org', 20004],
      ['192.0.2.7:4001', '192.0.2.7', 4001],
      [`mesh.example.org:443/p2p/${id}`, 'mesh.example.org', 443],
      ['[2001:db8::7]:4001', '2001:db8::7', 4001],
      ['[2001:db8::7]', '2001:db8::7', 20004],
    ] as const) {
      const printed = await print({ ...needed, server, role: 'server' })
      const { listenPort, advertiseAddress } = configOf(printed, 'server').config.modules.edgeTunnel
      assert.deepEqual([listenPort, advertiseAddress], [port, [host]])
      const ports = [{ name: 'tunnel', containerPort: port, hostPort: port, protocol: 'TCP' }]
      assert.deepEqual(printed.get('Deployment').spec?.template.spec.containers[0]?.ports, ports)
    }
  })

  test('makes another key of 32 random bytes each time, and says so, but not which', async () => {
    const [one, other] = [await print(needed), await print(needed)]
    const keys = [pskOf(one), pskOf(other)]
    assert.notEqual(keys[0], keys[1])
    for (const key of keys) {
      assert.match(key, /^[A-Za-z0-9+/]{43}=\n$/)
      assert.equal(Buffer.from(key, 'base64').length, 32)
    }
    assert.match(one.notices, /^edgemesh: a new pre-shared key was made/)
    assert.ok(!one.notices.includes(keys[0]?.trim() ?? ''))
  })

  test('takes the key from a file to the byte, or leaves it to the cluster', async () => {
    const file = join(folder, 'psk')
    writeFileSync(file, 'our key\r\n')
    const given = await print({ ...needed, pskFile: file })
    assert.equal(pskOf(given), 'our key\r\n')
    assert.ok(!given.notices.includes('pre-shared'))
    const kept = await print({ ...needed, keepPsk: true })
    assert.ok(!kept.objects.some(({ kind }) => kind === 'Secret'))
    assert.ok(!kept.notices.includes('pre-shared'))
  })

  test('makes new pods for a new configuration and not for a new key', async () => {
    const digests = async (options: CommandInput['options']) =>
      ['DaemonSet', 'Deployment'].map(async (kind) =>
        JSON.stringify((await print(options)).get(kind).spec?.template.metadata.annotations),
      )
    const of = async (options: CommandInput['options']) => Promise.all(await digests(options))
    const before = await of(needed)
    assert.deepEqual(await of(needed), before)
    const after = await of({ ...needed, server: 'other.example.org' })
    for (const [index, digest] of after.entries()) assert.notEqual(digest, before[index])
  })

  test('refuses what cannot work, with the exit code of a wrong command line', async () => {
    const empty = join(folder, 'empty')
    writeFileSync(empty, '\n')
    const cases: [CommandInput['options'], RegExp][] = [
      [{}, /--image.*no image of edgemesh is published/],
      [{ server: 'mesh.example.org' }, /--image/],
      [{ ...needed, image: 'REGISTRY/edgemesh:TAG' }, /--image: got REGISTRY/],
      [{ ...needed, image: 'edgemesh: 1' }, /--image/],
      [{ image: needed.image }, /Cannot do without --server/],
      [{ ...needed, server: ' , ' }, /Cannot do without --server/],
      [{ ...needed, namespace: 'Kube_Edge' }, /--namespace Kube_Edge/],
      [{ ...needed, pskFile: empty }, /is empty/],
      [{ ...needed, gatewaySecrets: 'shop/web-tls' }, /it goes with --role gateway/],
      [{ ...needed, role: 'gateway', gatewaySecrets: 'web-tls' }, /expected NAMESPACE\/NAME.*got web-tls/],
      [{ ...needed, role: 'gateway', gatewaySecrets: 'shop/*' }, /got shop\/\*/],
      [{ ...needed, pskFile: join(folder, 'none') }, /Cannot read --psk-file/],
      [{ ...needed, pskFile: empty, keepPsk: true }, /one of them is meant/],
    ]
    for (const [options, message] of cases) {
      await assert.rejects(print(options), (error) => {
        assert.ok(error instanceof manifests.ManifestsOptionError)
        assert.equal(error.exitCode, 64)
        assert.match(error.message, message)
        return true
      })
    }
    await assert.rejects(print({ ...needed, server: 'http://mesh.example.org' }), ConfigError)
  })

  test('takes the images that registries have', async () => {
    const digest = `@sha256:${'0'.repeat(64)}`
    for (const image of [
      'edgemesh',
      'edgemesh:1.0',
      'localhost:5000/a/b/edgemesh:V1_x',
      `r.example.org/edgemesh${digest}`,
    ]) {
      const printed = await print({ ...needed, image })
      const images = printed.objects.flatMap(
        ({ spec }) => spec?.template?.spec.containers.map((each) => each.image) ?? [],
      )
      assert.deepEqual(images, [image, image])
    }
  })
})
