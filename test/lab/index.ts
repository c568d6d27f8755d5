/**
 * A small internet in network namespaces, for tests that need a kernel, NATs and several machines:
 *
 *     await using lab = await createLab({ cloud: ['cloud-1'], lans: { a: { nodes: ['edge-a1', 'edge-a2'] } } })
 *     const { stdout } = await lab.node('edge-a1').exec(['curl', '-s', `http://${lab.node('cloud-1').address}/`])
 *
 *            wan 203.0.113.0/24 ── resolver .53
 *        ┌────────────┼───────────────────┐
 *   cloud-1 .100   router-a .10        router-b .11        masquerade; nothing comes in uninvited
 *              192.168.1.0/24       192.168.2.0/24
 *               ┌─────┴─────┐             │
 *           edge-a1 .11  edge-a2 .12   edge-b1 .11         nodes; pods hang on their bridge cni0
 *
 * It runs only under scripts/isolated, so that even a killed run leaves nothing. It knows how the executable is
 * started but nothing of what it does.
 *
 * Read next: `topology.ts` (what can be wished for), `host.ts`, `lab.ts`.
 *
 * @module
 */
export * from './edgemesh.ts'
export * from './host.ts'
export * from './lab.ts'
export * from './lab-process.ts'
export * from './long-line.ts'
export * from './manifests.ts'
export * from './public-path.ts'
export * from './servers/index.ts'
export * from './topology.ts'
export * from './traffic.ts'
