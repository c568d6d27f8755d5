/**
 * How rules of the kernel spread connections, and who reaches a Service at other addresses than its ClusterIP. The
 * node under test is `edge-a1`; the cloud node stands for every endpoint elsewhere and is dialled without a tunnel.
 *
 *        wan ── cloud-1 (http :8080)
 *         │
 *      router-a
 *         │ 192.168.1.0/24
 *     ┌───┴──────────────┐
 *   edge-a1            edge-a2 (a neighbour, no agent)
 *     │ cni0 10.244.0.0/24
 *   ┌─┴──┬────┐
 *  web1 web2 client
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { after, before, suite, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createLab, type Host, type Lab, type LabProcess, startTestServer } from '../../lab/index.ts'
import type { ProxyScene, SceneService } from '../service-proxy-process.ts'

import { argumentsFor, type RulesWay } from './rules-way.ts'

const script = resolve(import.meta.dirname, '../service-proxy-process.ts')

/** How rules of one kind spread connections, in a lab of its own. */
export function describeKernelPolicies(way: RulesWay): void {
  suite(`rules of ${way.name}`, () => describePolicies(way))
}

function describePolicies(way: RulesWay): void {
  let lab: Lab
  let node: Host
  let neighbour: Host
  let client: Host
  let running: LabProcess
  let file: string

  type Backend = SceneService['backends'][number]
  let web1: Backend
  let web2: Backend
  let there: Backend

  before(async () => {
    const pods = ['web1', 'web2', 'client']
    lab = await createLab({
      cloud: ['cloud-1'],
      lans: { a: { nodes: { 'edge-a1': { podBridge: '10.244.0.0/24', pods, bridgeNf: true }, 'edge-a2': {} } } },
    })
    node = lab.node('edge-a1')
    neighbour = lab.node('edge-a2')
    client = lab.pod('client')
    file = join(node.dir, 'scene.json')
    for (const host of [lab.pod('web1'), lab.pod('web2'), lab.node('cloud-1')]) {
      await startTestServer(host, 'http', { port: 8080 })
    }
    web1 = { node: 'edge-a1', address: lab.pod('web1').address, port: 8080 }
    web2 = { node: 'edge-a1', address: lab.pod('web2').address, port: 8080 }
    there = { node: 'cloud-1', address: lab.node('cloud-1').address, port: 8080 }
    await leaveChainsOfGoAgent()
    await write({ services: [marker] })
    running = node.spawn(argumentsFor(way, node, [process.execPath, script, file]))
    await running.waitForLine(/^ready/, 30_000)
  })
  after(() => lab?.[Symbol.asyncDispose]())

  /** What an agent of the Go system leaves in both kinds of iptables, beside a chain of somebody else. */
  async function leaveChainsOfGoAgent(): Promise<void> {
    for (const command of way.iptables) {
      const rules = [
        '-N KUBE-PORTALS-CONTAINER',
        '-N KUBE-PORTALS-HOST',
        '-N OTHERS',
        '-A PREROUTING -j KUBE-PORTALS-CONTAINER',
        '-A PREROUTING -j OTHERS',
        '-A KUBE-PORTALS-CONTAINER -d 10.96.0.10/32 -p tcp --dport 80 -j DNAT --to-destination 169.254.96.16:40001',
      ]
      const script = rules.map((rule) => `${command} -t nat ${rule}`).join(' && ')
      assert.equal((await node.exec(['sh', '-c', script])).code, 0)
    }
  }

  const write = (scene: Omit<ProxyScene, 'nodeName'>) =>
    writeFile(file, JSON.stringify({ nodeName: 'edge-a1', ...scene }))

  /** Tells by being served at another address that the rules of a scene stand. */
  const marker: SceneService = { name: 'marker', clusterIP: '10.96.1.1', port: 80, backends: [] }
  let scenes = 0

  async function show(...services: readonly SceneService[]): Promise<void> {
    await showWith([], ...services)
  }

  async function showWith(rules: ProxyScene['rules'], ...services: readonly SceneService[]): Promise<void> {
    scenes += 1
    const clusterIP = `10.96.1.${scenes + 1}`
    await write({ services: [{ ...marker, clusterIP, backends: [web2] }, ...services], rules: rules ?? [] })
    process.kill(running.pid, 'SIGHUP')
    await eventually(`scene ${scenes} stands`, async () => (await get(node, clusterIP)).code === 0)
  }

  async function eventually(what: string, check: () => Promise<boolean>, limitMs = 10_000): Promise<void> {
    const startedAt = performance.now()
    while (!(await check())) {
      if (performance.now() - startedAt > limitMs) throw new Error(`still not true after ${limitMs} ms: ${what}`)
      await delay(20)
    }
  }

  const get = (from: Host, authority: string, path = '/') =>
    from.exec(['curl', '-sS', '--max-time', '2', `http://${authority}${path}`])

  async function answerTo(from: Host, authority: string, path = '/'): Promise<string> {
    const { code, stdout, stderr } = await get(from, authority, path)
    assert.equal(code, 0, `${from.name} to ${authority}: ${stderr}`)
    return stdout.trim()
  }

  /** How often each endpoint answered. */
  async function shares(from: Host, authority: string, times: number): Promise<Record<string, number>> {
    const loop = `for n in $(seq ${times}); do curl -sS --max-time 2 http://${authority}/ || exit 1; done`
    const { code, stdout, stderr } = await from.exec(['sh', '-c', loop], { timeoutMs: 60_000 })
    assert.equal(code, 0, stderr)
    const counts: Record<string, number> = {}
    for (const name of stdout.trim().split('\n')) counts[name] = (counts[name] ?? 0) + 1
    return counts
  }

  const isRefused = async (from: Host, authority: string) => (await get(from, authority)).code === 7
  const isDropped = async (from: Host, authority: string) => (await get(from, authority)).code === 28

  test('chains that an agent of the Go system left are gone, those of others are not', async () => {
    for (const command of way.iptables) {
      const { stdout } = await node.exec([command, '-t', 'nat', '-S'])
      assert.doesNotMatch(stdout, /KUBE-PORTALS/)
      assert.match(stdout, /-A PREROUTING -j OTHERS/)
    }
  })

  test('status says what makes the rules, and why', async () => {
    process.kill(running.pid, 'SIGUSR2')
    const { rules } = JSON.parse((await running.waitForLine(/^status/)).slice('status '.length))
    const kind = way.name === 'nftables' ? 'nftables' : 'iptables'
    assert.equal(rules.kind, kind)
    assert.match(
      `${rules.version}`,
      { nftables: /^undefined$/, 'iptables-nft': /nf_tables/, 'iptables-legacy': /legacy/ }[way.name],
    )
    assert.match(rules.reason, kind === 'nftables' ? /take all rules/ : /nft: the command is not installed/)
    const { stdout } = await node.exec(['nft', 'list', 'tables'])
    assert.equal(stdout.includes('table ip edgemesh'), kind === 'nftables')
  })

  suite('spreading', () => {
    const service = (backends: readonly Backend[], fields: SceneService['fields'] = {}): SceneService => ({
      name: 'web',
      clusterIP: '10.96.0.10',
      port: 80,
      backends,
      fields,
    })
    const rule = (kind: 'round-robin' | 'source') => {
      const ring = { kind: 'ring' } as const
      const hashed = { kind: 'consistent-hash', key: { kind: 'source-ip' }, ring } as const
      return [{ host: 'web', trafficPolicy: { loadBalancer: kind === 'source' ? hashed : { kind } } }]
    }

    test('a rule for round robin gives each endpoint its turn, here and elsewhere, whatever other Services do', async () => {
      const other = { ...service([web1, web2]), name: 'other', clusterIP: '10.96.0.11' }
      const twin = { host: 'other', trafficPolicy: { loadBalancer: { kind: 'round-robin' } } } as const
      await showWith([...rule('round-robin'), twin], service([web1, web2, there]), other)
      const pair = `for n in $(seq 30); do curl -sS http://10.96.0.10/; curl -sS http://10.96.0.11/ | sed s/^/other-/; done`
      const { stdout } = await client.exec(['sh', '-c', pair], { timeoutMs: 60_000 })
      const counts: Record<string, number> = {}
      for (const name of stdout.trim().split('\n')) counts[name] = (counts[name] ?? 0) + 1
      assert.deepEqual(counts, { web1: 10, web2: 10, 'cloud-1': 10, 'other-web1': 15, 'other-web2': 15 })
    })

    test('a rule for hashing the source gives a client always the same endpoint', async () => {
      await showWith(rule('source'), service([web1, web2]))
      for (const host of [client, node]) {
        assert.equal(Object.keys(await shares(host, '10.96.0.10', 12)).length, 1, host.name)
      }
    })

    test('with affinity a client keeps its endpoint until it was away for too long, others do as they like', async () => {
      await show(service([web1, web2], { clientIPAffinitySeconds: 2 }))
      const chosen = new Set<string>()
      for (let round = 0; round < 20 && chosen.size < 2; round++) {
        const [name = '', ...others] = Object.keys(await shares(client, '10.96.0.10', 4))
        assert.deepEqual(others, [])
        chosen.add(name)
        await delay(2_200)
      }
      assert.deepEqual([...chosen].sort(), ['web1', 'web2'])
    })

    test('with affinity a client goes to another endpoint when its own is gone, and survives a new agent', async () => {
      await show(service([web1, web2], { clientIPAffinitySeconds: 600 }))
      const first = await answerTo(client, '10.96.0.10')
      const rest = first === 'web1' ? web2 : web1
      await running.stop('SIGKILL')
      running = node.spawn(argumentsFor(way, node, [process.execPath, script, file]))
      await running.waitForLine(/^ready/, 30_000)
      assert.deepEqual(await shares(client, '10.96.0.10', 8), { [first]: 8 })
      await show(service([rest], { clientIPAffinitySeconds: 600 }))
      const second = rest === web1 ? 'web1' : 'web2'
      assert.deepEqual(await shares(client, '10.96.0.10', 8), { [second]: 8 })
      await show(service([web1, web2], { clientIPAffinitySeconds: 600 }))
      assert.deepEqual(await shares(client, '10.96.0.10', 8), { [second]: 8 })
    })

    test('internalTrafficPolicy Local uses endpoints here alone, and refuses without one', async () => {
      await show(service([web1, there], { internalTrafficPolicy: 'Local' }))
      assert.deepEqual(await shares(client, '10.96.0.10', 8), { web1: 8 })
      await show(service([there], { internalTrafficPolicy: 'Local' }))
      assert.ok(await isRefused(client, '10.96.0.10'))
    })

    test('a Service that was deleted is refused, and not sent out by the default route', async () => {
      await show(service([web1]))
      assert.equal(await answerTo(client, '10.96.0.10'), 'web1')
      await show()
      for (const host of [client, node]) assert.ok(await isRefused(host, '10.96.0.10'), host.name)
    })
  })

  suite('access from outside', () => {
    const virtual = '198.18.0.5'
    const service = (backends: readonly Backend[], fields: SceneService['fields'] = {}): SceneService => ({
      name: 'web',
      clusterIP: '10.96.0.10',
      port: 80,
      nodePort: 30080,
      backends,
      fields: { type: 'LoadBalancer', externalIPs: [virtual], ...fields },
    })
    const nodePort = () => `${node.address}:30080`

    before(async () => {
      for (const network of ['10.96.0.0/16', '198.18.0.0/24']) {
        await neighbour.exec(['ip', 'route', 'add', network, 'via', node.address])
      }
    })

    test('the node port is served on every address of the node, with endpoints here and elsewhere', async () => {
      await show(service([web1, there]))
      for (const [from, address] of [
        [neighbour, nodePort()],
        [node, nodePort()],
        [node, '127.0.0.1:30080'],
        [node, '10.244.0.1:30080'],
        [client, '10.244.0.1:30080'],
        [client, nodePort()],
      ] as const) {
        const counts = await shares(from, address, 20)
        assert.ok(
          Object.keys(counts).every((name) => name === 'web1' || name === 'cloud-1'),
          JSON.stringify(counts),
        )
        assert.ok((counts['cloud-1'] ?? 0) > 0, `${from.name} to ${address}: ${JSON.stringify(counts)}`)
      }
    })

    test('the endpoint here sees the address of the neighbour', async () => {
      await show(service([web1]))
      assert.match(await answerTo(neighbour, nodePort(), '/client'), new RegExp(`^${neighbour.address}:`))
      assert.equal(await answerTo(node, '127.0.0.1:30080'), 'web1')
    })

    test('neighbours reach external addresses, but not the ClusterIP', async () => {
      await show(service([web1, there]))
      assert.equal(Object.keys(await shares(neighbour, virtual, 20)).length, 2)
      assert.equal(Object.keys(await shares(client, virtual, 20)).length, 2)
      assert.notEqual((await get(neighbour, '10.96.0.10')).code, 0)
    })

    test('externalTrafficPolicy Local sends neighbours to endpoints here, and drops them without one', async () => {
      await show(service([web1, there], { externalTrafficPolicy: 'Local' }))
      for (const address of [nodePort(), virtual]) assert.deepEqual(await shares(neighbour, address, 8), { web1: 8 })
      assert.equal(Object.keys(await shares(client, virtual, 20)).length, 2)
      const checked = { externalTrafficPolicy: 'Local', healthCheckNodePort: 32000 } as const
      const localEndpointsBecome = (count: number) =>
        eventually(`load balancers are told of ${count} endpoints`, async () => {
          const { stdout } = await get(neighbour, `${node.address}:32000`)
          return stdout.includes(`"localEndpoints":${count}`)
        })
      await show(service([web1, there], checked))
      await localEndpointsBecome(1)
      await show(service([there], checked))
      await localEndpointsBecome(0)
      for (const address of [nodePort(), virtual]) assert.ok(await isDropped(neighbour, address), address)
      assert.equal(await answerTo(client, virtual), 'cloud-1')
    })

    test('without endpoints everybody is refused', async () => {
      await show(service([]))
      for (const [from, address] of [
        [neighbour, nodePort()],
        [neighbour, virtual],
        [client, virtual],
        [node, virtual],
        [node, '127.0.0.1:30080'],
      ] as const) {
        assert.ok(await isRefused(from, address), `${from.name} to ${address}`)
      }
    })

    test('addresses of load balancers are for the networks that the Service names', async () => {
      const fields = {
        externalIPs: [],
        loadBalancerIPs: [virtual],
        loadBalancerSourceRanges: [`${neighbour.address}/32`],
      }
      await show(service([web1], fields))
      assert.equal(await answerTo(neighbour, virtual), 'web1')
      assert.ok(await isDropped(client, virtual))
      assert.equal(await answerTo(client, '10.96.0.10'), 'web1')
    })
  })

  suite('datagrams of a client that keeps its port', () => {
    const service = (backends: readonly Backend[]): SceneService => ({
      name: 'names',
      protocol: 'udp',
      clusterIP: '10.96.0.20',
      port: 5300,
      backends: backends.map((backend) => ({ ...backend, port: 5300 })),
    })
    const answerer = `const s = require('dgram').createSocket('udp4')
    s.on('message', (m, r) => s.send(process.argv[1], r.port, r.address)).bind(5300, () => console.log('listening'))`
    const asker = `const s = require('dgram').createSocket('udp4')
    s.on('message', (m) => console.log('from ' + m)).on('error', () => {}).bind(40123)
    setInterval(() => s.send('hi', 5300, '10.96.0.20', () => {}), 50)`

    test('find an endpoint as soon as there is a rule, and another one when theirs is gone', async () => {
      for (const name of ['web1', 'web2']) {
        await lab
          .pod(name)
          .spawn([process.execPath, '-e', answerer, name])
          .waitForLine(/^listening/, 30_000)
      }
      await show()
      const asking = client.spawn([process.execPath, '-e', asker])
      // A flow is tracked to where there is no rule for it yet.
      await eventually('the flow is tracked', async () => {
        return (await node.exec(['cat', '/proc/net/nf_conntrack'])).stdout.includes('sport=40123 dport=5300')
      })
      await show(service([web1]))
      await asking.waitForLine(/^from web1$/)
      await show(service([web2]))
      await asking.waitForLine(/^from web2$/)
      await show(service([web2, web1]))
      await show(service([web1]))
      await eventually('the first one answers again', async () => asking.output().trim().endsWith('from web1'))
    })
  })
}
