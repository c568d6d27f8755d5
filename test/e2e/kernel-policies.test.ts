/**
 * How rules of the kernel spread connections, and who reaches a Service at other addresses than its ClusterIP. The
 * node under test is `edge-a1`; the cloud node stands for every endpoint elsewhere and is dialled without a tunnel.
 * Each way to make rules does the same; see support/kernel-policies.ts.
 */
import { describeKernelPolicies } from './support/kernel-policies.ts'
import { rulesWays } from './support/rules-way.ts'

for (const way of rulesWays) describeKernelPolicies(way)
