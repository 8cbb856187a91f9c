/** How many inputs a property is tried with: few in a run of all tests, more by `TSFS_FUZZ_RUNS` (`npm run test:fuzz`). */
export function fuzzRuns(quick: number): { readonly numRuns: number } {
  const wanted = process.env.TSFS_FUZZ_RUNS;
  return { numRuns: wanted === undefined ? quick : Number(wanted) };
}
