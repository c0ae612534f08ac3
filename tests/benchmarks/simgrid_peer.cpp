/* SimGrid's plugin for live migration, beside which the benchmarks measure migkit.
 *
 * simgrid_peer GUESTS PARALLEL RATE MEGABYTES PERCENT REPEATS: machines of MEGABYTES, which dirty memory at PERCENT of
 * RATE (bytes/s), leave one host over one link of that rate, PARALLEL at a time; REPEATS times there and back.
 * Prints the wall time of a migration (us) and the simulated time of the first drain (s).
 */
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <simgrid/plugins/live_migration.h>
#include <simgrid/s4u.hpp>
#include <simgrid/s4u/VirtualMachine.hpp>
#include <string>
#include <vector>

namespace sg = simgrid::s4u;

int main(int argc, char** argv)
{
  sg::Engine engine(&argc, argv);
  sg_vm_live_migration_plugin_init();
  if (argc != 7)
    return 2;
  const int guests = std::atoi(argv[1]), parallel = std::atoi(argv[2]);
  const double rate = std::atof(argv[3]);
  const int megabytes = std::atoi(argv[4]), percent = std::atoi(argv[5]), repeats = std::atoi(argv[6]);

  auto* zone   = sg::create_full_zone("zone");
  auto* source = zone->create_host("source", 1e9)->set_core_count(guests);
  auto* target = zone->create_host("target", 1e9)->set_core_count(guests);
  auto* link   = zone->create_link("link", rate)->set_latency(50e-6);
  zone->add_route(source->get_netpoint(), target->get_netpoint(), nullptr, nullptr, {sg::LinkInRoute(link)}, true);
  zone->seal();

  std::vector<sg::VirtualMachine*> machines;
  for (int i = 0; i < guests; i++) {
    auto* vm = sg_vm_create_migratable(source, ("vm" + std::to_string(i)).c_str(), 1, megabytes,
                                       static_cast<int>(rate / 1e6), percent);
    vm->start();
    machines.push_back(vm);
    sg::Actor::create("work", vm, [] { sg::this_actor::execute(1e18); })->daemonize();
  }
  double first_s = 0;
  int running = parallel;
  for (int worker = 0; worker < parallel; worker++)
    sg::Actor::create("manager", source, [&, worker] {
      for (int turn = 0; turn < 2 * repeats; turn++) {
        for (int i = worker; i < guests; i += parallel)
          sg_vm_migrate(machines[i], turn % 2 == 0 ? target : source);
        if (turn == 0)
          first_s = std::max(first_s, sg::Engine::get_clock());
      }
      if (--running == 0)
        for (auto* vm : machines)
          vm->shutdown();
    });
  const auto began = std::chrono::steady_clock::now();
  engine.run();
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
  std::printf("%.3f %.6f\n", took.count() / (2.0 * repeats * guests), first_s);
  return 0;
}
